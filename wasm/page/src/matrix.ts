// The table of similarities: every face of the one picture with every face of the other.

import type { Face } from "../../pkg/index.js";
import { cropCanvas } from "./crop.js";

/** Over this, two faces are probably one person: impostor pairs of MobileFaceNet lie around 0, and rarely reach 0.3. */
const SAME = 0.4;
const PERHAPS = 0.28;

export interface Side {
    letter: string;
    faces: Face[];
}

/** Cosine of two unit vectors, as `similarity` of the package; here because the page does not load the module, its worker does. */
export function cosine(a: Float32Array, b: Float32Array): number {
    return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}

/** Similarities by row (faces of `a`) and column (faces of `b`); faces without an embedding have none. */
export function similarities(a: Face[], b: Face[]): (number | undefined)[][] {
    return a.map((x) => b.map((y) => (x.embedding && y.embedding ? cosine(x.embedding, y.embedding) : undefined)));
}

/** Fills `into` and says in `verdict` what the table means. `onHover` hears which pair the pointer is on. */
export function showMatrix(
    into: HTMLElement,
    verdict: HTMLElement,
    a: Side,
    b: Side,
    onHover: (pair: [number, number] | undefined) => void,
) {
    if (!a.faces.length || !b.faces.length) {
        into.replaceChildren();
        const lacking = [a, b].filter((side) => !side.faces.length).map((side) => side.letter);
        say(verdict, lacking.length === 2 ? "Two pictures with faces are compared face by face." : `Waiting for a face in picture ${lacking[0]}.`);
        return;
    }
    // The side with more faces runs along the longer side of the screen.
    const wide = matchMedia("(min-width: 761px)").matches;
    if (wide ? a.faces.length > b.faces.length : a.faces.length < b.faces.length) {
        return showTable(into, verdict, b, a, (pair) => onHover(pair && [pair[1], pair[0]]));
    }
    showTable(into, verdict, a, b, onHover);
}

/** The faces of `a` in rows, those of `b` in columns. */
function showTable(
    into: HTMLElement,
    verdict: HTMLElement,
    a: Side,
    b: Side,
    onHover: (pair: [number, number] | undefined) => void,
) {
    const values = similarities(a.faces, b.faces);
    const pairs = values.flatMap((row, i) => row.map((value, j) => ({ i, j, value: value ?? -2 })));
    const best = pairs.reduce((x, y) => (y.value > x.value ? y : x));

    const table = document.createElement("table");
    const caption = table.createCaption();
    caption.hidden = true;
    caption.textContent = `Similarity of the faces of picture ${a.letter} (rows) and picture ${b.letter} (columns)`;
    const head = table.createTHead().insertRow();
    const corner = head.appendChild(document.createElement("th"));
    corner.className = "corner";
    corner.textContent = `${a.letter} ↓ ${b.letter} →`;
    b.faces.forEach((face, j) => head.append(header(face, `${b.letter}${j + 1}`, "col")));
    const body = table.createTBody();
    values.forEach((row, i) => {
        const line = body.insertRow();
        line.append(header(a.faces[i], `${a.letter}${i + 1}`, "row"));
        row.forEach((value, j) => line.append(cell(value, best.i === i && best.j === j, () => onHover([i, j]))));
    });
    table.addEventListener("pointerleave", () => onHover(undefined));
    const { scrollLeft, scrollTop } = into;
    into.replaceChildren(table);
    into.scrollTo(scrollLeft, scrollTop);

    const names = [`${a.letter}${best.i + 1}`, `${b.letter}${best.j + 1}`].sort();
    const value = decimal(best.value);
    if (best.value >= SAME) say(verdict, "", names, `are probably the same person (${value}).`);
    else if (best.value >= PERHAPS) say(verdict, "", names, `look alike, no more than that (${value}).`);
    else say(verdict, `Nobody is in both pictures; the nearest are`, names, `(${value}).`);
}

function header(face: Face | undefined, name: string, scope: "row" | "col"): HTMLElement {
    const cell = document.createElement("th");
    cell.scope = scope;
    const frame = document.createElement("span");
    frame.className = "face";
    frame.style.display = "block";
    if (face?.crop) frame.append(cropCanvas(face.crop));
    const text = frame.appendChild(document.createElement("span"));
    text.textContent = name;
    cell.append(frame);
    return cell;
}

function cell(value: number | undefined, best: boolean, onHover: () => void): HTMLElement {
    const cell = document.createElement("td");
    cell.textContent = value === undefined ? "–" : decimal(value);
    // From nothing in common to one and the same picture.
    const share = Math.round(Math.max(0, Math.min(1, (value ?? 0) / 0.8)) * 100);
    cell.style.setProperty("--share", `${share}%`);
    cell.classList.toggle("strong", share > 55);
    cell.classList.toggle("best", best && (value ?? 0) >= PERHAPS);
    cell.addEventListener("pointerenter", onHover);
    return cell;
}

function decimal(value: number): string {
    return value.toFixed(2).replace("-0.00", "0.00").replace("-", "−");
}

/** A sentence with stressed names; spoken again only when it changes. */
function say(into: HTMLElement, before: string, names: string[] = [], after = "") {
    const [first, second] = names;
    const text = first && second ? `${before} ${first} and ${second} ${after}`.trim() : before;
    if (into.textContent === text) return;
    const strong = (name: string) => Object.assign(document.createElement("strong"), { textContent: name });
    into.replaceChildren(...(first && second ? [before && `${before} `, strong(first), " and ", strong(second), ` ${after}`] : [text]));
}
