// Compares every face of one picture with every face of the other: a table of similarities, and a verdict in one
// sentence.

import type { Face } from "../../pkg/index.js";
import { Announcer } from "./announcer.js";
import { cosine, nearest, type Embeddings, type Pair } from "./similar.js";
import { Table, type Line } from "./table.js";

/**
 * Minimum similarity of a probable match. Pairs of different persons lie around 0 with MobileFaceNet, and rarely reach
 * 0.3.
 */
const SAME = 0.4;
/** Minimum similarity that is reported as a resemblance. */
const ALIKE = 0.28;
/** Maximum number of rows and of columns: the layout of a table of a crowd would take minutes. */
const MAX_LINES = 40;
/** Maximum number of pairs that the page compares itself, which takes a few milliseconds. The worker compares more. */
const MAX_PAIRS_ON_PAGE = 2000;

export interface Side {
    letter: string;
    faces: Face[];
    /** The faces come from a camera. */
    live: boolean;
}

/** Indices of the highlighted faces of picture A and picture B. */
export type Lit = [a: number | undefined, b: number | undefined];

type Compare = (a: Embeddings, b: Embeddings) => Promise<Pair | undefined>;

export interface Parts {
    table: HTMLElement;
    verdict: HTMLElement;
    /** The live region that announces the verdict. */
    said: HTMLElement;
    /** Displays the number of faces without a row or column. */
    note: HTMLElement;
}

export class Matrix {
    #parts: Parts;
    #table: Table;
    #announcer: Announcer;
    #compare: Compare;
    #lit: Lit = [undefined, undefined];
    /** The rows are the faces of picture B. */
    #swapped = false;
    /** Number of calls of `show`; replies to earlier calls are ignored. */
    #generation = 0;

    /**
     * `compare` finds the most similar pair in the worker; `onPoint` receives the pair under the pointer or the focus.
     */
    constructor(parts: Parts, compare: Compare, onPoint: (pair: Lit) => void) {
        this.#parts = parts;
        this.#compare = compare;
        this.#announcer = new Announcer(parts.said);
        this.#table = new Table(parts.table, (row, column) => onPoint(this.#swapped ? [column, row] : [row, column]));
    }

    /** Displays the similarities of two pictures. */
    show(a: Side, b: Side) {
        const generation = ++this.#generation;
        const live = a.live || b.live;
        const lacking = [a, b].filter((side) => !side.faces.length).map((side) => side.letter);
        if (lacking.length) {
            this.#table.clear();
            this.#parts.note.textContent = "";
            const text = lacking.length === 2 ? "Open two pictures to compare their faces." : `No face in picture ${lacking[0]} yet.`;
            return this.#say(`waiting ${lacking}`, live, text);
        }
        const embeddings = (side: Side) => side.faces.map((face) => face.embedding);
        if (a.faces.length * b.faces.length <= MAX_PAIRS_ON_PAGE) return this.#fill(a, b, nearest(embeddings(a), embeddings(b)), live);
        this.#draw(a, b, undefined);
        this.#say("comparing", live, `Comparing ${a.faces.length} with ${b.faces.length} faces.`);
        this.#compare(embeddings(a), embeddings(b)).then(
            (best) => generation === this.#generation && this.#fill(a, b, best, live),
            (error: Error) => generation === this.#generation && this.#say("failed", live, error.message),
        );
    }

    /** Marks the row and the column of the highlighted faces. */
    light(lit: Lit) {
        this.#lit = lit;
        const [a, b] = lit;
        this.#table.mark(...(this.#swapped ? ([b, a] as const) : ([a, b] as const)));
    }

    #fill(a: Side, b: Side, best: Pair | undefined, live: boolean) {
        this.#draw(a, b, best);
        if (!best) return this.#say("comparing", live, "Comparing.");
        const names = [`${a.letter}${best.i + 1}`, `${b.letter}${best.j + 1}`];
        const value = decimal(best.value);
        if (best.value >= SAME) this.#say("same", live, "", names, `are probably the same person (${value}).`);
        else if (best.value >= ALIKE) this.#say("alike", live, "", names, `look alike, but are probably different persons (${value}).`);
        else this.#say("nobody", live, "The pictures probably have no person in common. The most similar faces are", names, `(${value}).`);
    }

    #draw(a: Side, b: Side, best: Pair | undefined) {
        const [i, j] = [shown(a.faces.length, best?.i), shown(b.faces.length, best?.j)];
        // The picture with more faces lies along the longer side of the screen.
        const wide = matchMedia("(min-width: 761px)").matches;
        this.#swapped = wide ? a.faces.length > b.faces.length : a.faces.length < b.faces.length;
        const lines = (side: Side, indices: number[]): Line[] =>
            indices.map((index) => ({ index, name: `${side.letter}${index + 1}`, crop: side.faces[index]?.crop }));
        const value = (i: number, j: number) => {
            const [x, y] = [a.faces[i]?.embedding, b.faces[j]?.embedding];
            const value = x && y ? cosine(x, y) : undefined;
            return {
                text: value === undefined ? "–" : decimal(value),
                // 0 to 100 %; 0.8 is a typical value for two crops of the same picture.
                share: Math.round(Math.max(0, Math.min(1, (value ?? 0) / 0.8)) * 100),
                best: best?.i === i && best.j === j && best.value >= ALIKE,
            };
        };
        const sides = [{ side: a, lines: lines(a, i) }, { side: b, lines: lines(b, j) }];
        const [rows, columns] = this.#swapped ? [sides[1]!, sides[0]!] : [sides[0]!, sides[1]!];
        this.#table.show({
            title: `Similarity of the faces of picture ${rows.side.letter} (rows) and picture ${columns.side.letter} (columns)`,
            corner: `${rows.side.letter} ↓ ${columns.side.letter} →`,
            rows: rows.lines,
            columns: columns.lines,
            cell: (row, column) => (this.#swapped ? value(column, row) : value(row, column)),
        });
        this.light(this.#lit);
        const crowds = [a, b].filter((side) => side.faces.length > MAX_LINES);
        const counts = crowds.map((side) => `${MAX_LINES} of the ${side.faces.length} faces of picture ${side.letter}`);
        this.#parts.note.textContent = counts.length ? `All faces were compared. The table contains ${counts.join(" and ")}.` : "";
    }

    /** Displays and announces the verdict, with the names of the faces in bold. */
    #say(kind: string, live: boolean, before: string, names: string[] = [], after = "") {
        const [first, second] = names.toSorted();
        const text = first && second ? `${before} ${first} and ${second} ${after}`.trim() : before;
        this.#announcer.say(text, kind, live);
        const { verdict } = this.#parts;
        if (verdict.textContent === text) return;
        const strong = (name: string) => Object.assign(document.createElement("strong"), { textContent: name });
        verdict.replaceChildren(...(first && second ? [before && `${before} `, strong(first), " and ", strong(second), ` ${after}`] : [text]));
    }
}

/** Indices of the faces with a row or column: the first ones, and that of the most similar pair. */
function shown(count: number, best: number | undefined): number[] {
    const indices = Array.from({ length: Math.min(count, MAX_LINES) }, (_, i) => i);
    if (best !== undefined && best >= MAX_LINES) indices[MAX_LINES - 1] = best;
    return indices;
}

function decimal(value: number): string {
    return value.toFixed(2).replace("-0.00", "0.00").replace("-", "−");
}
