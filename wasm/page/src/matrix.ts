// The table of similarities: every face of the one picture with every face of the other, and what it comes to.

import type { Face } from "../../pkg/index.js";
import { Announcer } from "./announcer.js";
import { cosine, nearest, type Embeddings, type Pair } from "./similar.js";
import { Table, type Line } from "./table.js";

/** Over this, two faces are probably one person: impostor pairs of MobileFaceNet lie around 0, and rarely reach 0.3. */
const SAME = 0.4;
const PERHAPS = 0.28;
/** Faces of a picture that have a row or a column: a table of all of a crowd would take minutes to lay out. */
const SHOWN = 40;
/** Pairs that are compared on the page, in a few milliseconds; more are compared by the worker. */
const FEW_PAIRS = 2000;

export interface Side {
    letter: string;
    faces: Face[];
    /** The faces come from a camera. */
    live: boolean;
}

/** Faces of the first picture and of the second, by index; either may be absent. */
export type Lit = [a: number | undefined, b: number | undefined];

type Compare = (a: Embeddings, b: Embeddings) => Promise<Pair | undefined>;

export interface Parts {
    table: HTMLElement;
    verdict: HTMLElement;
    /** The live region that says the verdict. */
    said: HTMLElement;
    /** Says how much of a crowd is shown. */
    note: HTMLElement;
}

export class Matrix {
    #parts: Parts;
    #table: Table;
    #announcer: Announcer;
    #compare: Compare;
    #lit: Lit = [undefined, undefined];
    /** The second picture's faces have the rows. */
    #turned = false;
    /** Counts what was shown, so that answers to older questions are dropped. */
    #turn = 0;

    /** `compare` finds the nearest pair elsewhere; `onPoint` hears which pair the pointer or the keyboard is on. */
    constructor(parts: Parts, compare: Compare, onPoint: (pair: Lit) => void) {
        this.#parts = parts;
        this.#compare = compare;
        this.#announcer = new Announcer(parts.said);
        this.#table = new Table(parts.table, (row, column) => onPoint(this.#turned ? [column, row] : [row, column]));
    }

    show(a: Side, b: Side) {
        const turn = ++this.#turn;
        const live = a.live || b.live;
        const lacking = [a, b].filter((side) => !side.faces.length).map((side) => side.letter);
        if (lacking.length) {
            this.#table.clear();
            this.#parts.note.textContent = "";
            const text = lacking.length === 2 ? "Two pictures with faces are compared face by face." : `Waiting for a face in picture ${lacking[0]}.`;
            return this.#say(`waiting ${lacking}`, live, text);
        }
        const embeddings = (side: Side) => side.faces.map((face) => face.embedding);
        if (a.faces.length * b.faces.length <= FEW_PAIRS) return this.#fill(a, b, nearest(embeddings(a), embeddings(b)), live);
        this.#draw(a, b, undefined);
        this.#say("comparing", live, `Comparing ${a.faces.length} with ${b.faces.length} faces.`);
        this.#compare(embeddings(a), embeddings(b)).then(
            (best) => turn === this.#turn && this.#fill(a, b, best, live),
            (error: Error) => turn === this.#turn && this.#say("failed", live, error.message),
        );
    }

    /** Marks the row and the column of faces that are stressed in the pictures. */
    light(lit: Lit) {
        this.#lit = lit;
        const [a, b] = lit;
        this.#table.mark(...(this.#turned ? ([b, a] as const) : ([a, b] as const)));
    }

    #fill(a: Side, b: Side, best: Pair | undefined, live: boolean) {
        this.#draw(a, b, best);
        if (!best) return this.#say("comparing", live, "Comparing.");
        const names = [`${a.letter}${best.i + 1}`, `${b.letter}${best.j + 1}`];
        const value = decimal(best.value);
        if (best.value >= SAME) this.#say("same", live, "", names, `are probably the same person (${value}).`);
        else if (best.value >= PERHAPS) this.#say("alike", live, "", names, `look alike, no more than that (${value}).`);
        else this.#say("nobody", live, "Nobody is in both pictures; the nearest are", names, `(${value}).`);
    }

    #draw(a: Side, b: Side, best: Pair | undefined) {
        const [i, j] = [shown(a.faces.length, best?.i), shown(b.faces.length, best?.j)];
        // The side with more faces runs along the longer side of the screen.
        const wide = matchMedia("(min-width: 761px)").matches;
        this.#turned = wide ? a.faces.length > b.faces.length : a.faces.length < b.faces.length;
        const lines = (side: Side, indices: number[]): Line[] =>
            indices.map((index) => ({ index, name: `${side.letter}${index + 1}`, crop: side.faces[index]?.crop }));
        const value = (i: number, j: number) => {
            const [x, y] = [a.faces[i]?.embedding, b.faces[j]?.embedding];
            const value = x && y ? cosine(x, y) : undefined;
            return {
                text: value === undefined ? "–" : decimal(value),
                // From nothing in common to one and the same picture.
                share: Math.round(Math.max(0, Math.min(1, (value ?? 0) / 0.8)) * 100),
                best: best?.i === i && best.j === j && best.value >= PERHAPS,
            };
        };
        const sides = [{ side: a, lines: lines(a, i) }, { side: b, lines: lines(b, j) }];
        const [rows, columns] = this.#turned ? [sides[1]!, sides[0]!] : [sides[0]!, sides[1]!];
        this.#table.show({
            title: `Similarity of the faces of picture ${rows.side.letter} (rows) and picture ${columns.side.letter} (columns)`,
            corner: `${rows.side.letter} ↓ ${columns.side.letter} →`,
            rows: rows.lines,
            columns: columns.lines,
            cell: (row, column) => (this.#turned ? value(column, row) : value(row, column)),
        });
        this.light(this.#lit);
        const crowds = [a, b].filter((side) => side.faces.length > SHOWN);
        const counts = crowds.map((side) => `of picture ${side.letter} ${SHOWN} faces, and ${side.faces.length - SHOWN} more were compared`);
        this.#parts.note.textContent = counts.length ? `Shown are ${counts.join("; ")}.` : "";
    }

    /** A sentence with stressed names. */
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

/** Indices of the faces that are shown: the first, and the one of the best pair. */
function shown(count: number, best: number | undefined): number[] {
    const indices = Array.from({ length: Math.min(count, SHOWN) }, (_, i) => i);
    if (best !== undefined && best >= SHOWN) indices[SHOWN - 1] = best;
    return indices;
}

function decimal(value: number): string {
    return value.toFixed(2).replace("-0.00", "0.00").replace("-", "−");
}
