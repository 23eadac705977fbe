// A table with faces as rows and columns. Its cells are changed in place, so that they keep the focus and the pointer
// while a camera runs.

import type { Pixels } from "../../pkg/index.js";
import { paintCrop } from "./crop.js";

/** A row or a column. */
export interface Line {
    /** Index of the face in its picture. */
    index: number;
    name: string;
    crop: Pixels | undefined;
}

export interface Content {
    title: string;
    corner: string;
    rows: Line[];
    columns: Line[];
    /** The cell of two faces, given by their indices; `share` is the strength of its color, 0 to 100. */
    cell: (row: number, column: number) => { text: string; share: number; best: boolean };
}

/**
 * Shares above which style.css inverts the color of a cell's text: MIDDLING in the dark color scheme, STRONG in the
 * light one.
 */
const MIDDLING = 60;
const STRONG = 88;

/** Movement of the focus for each key, in rows and columns. */
const STEPS: Record<string, [rows: number, columns: number]> = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -Infinity],
    End: [0, Infinity],
    PageUp: [-Infinity, 0],
    PageDown: [Infinity, 0],
};

export class Table {
    #into: HTMLElement;
    #table = document.createElement("table");
    #head = this.#table.createTHead().insertRow();
    #corner = this.#head.appendChild(document.createElement("th"));
    #body = this.#table.createTBody();
    #rows: Line[] = [];
    #columns: Line[] = [];
    /** The only cell that the Tab key can reach; arrow keys move from it. */
    #stop: HTMLTableCellElement | undefined;

    /** `onPoint` receives the faces of the cell under the pointer or, if there is none, of the focused cell. */
    constructor(into: HTMLElement, onPoint: (row: number | undefined, column: number | undefined) => void) {
        this.#into = into;
        this.#corner.className = "corner";
        // The role of tables whose cells are reached with the arrow keys.
        this.#table.setAttribute("role", "grid");
        const point = (cell: HTMLTableCellElement | undefined) => {
            const row = cell && this.#rows[(cell.parentElement as HTMLTableRowElement).sectionRowIndex];
            const column = cell && this.#columns[cell.cellIndex - 1];
            onPoint(row?.index, column?.index);
        };
        this.#table.addEventListener("pointerover", (event) => point(cellOf(event) ?? this.#focused()));
        this.#table.addEventListener("pointerleave", () => point(this.#focused()));
        this.#table.addEventListener("focusin", (event) => {
            const cell = cellOf(event);
            if (cell) this.#stopAt(cell);
            point(cell);
        });
        this.#table.addEventListener("focusout", () => point(undefined));
        this.#table.addEventListener("keydown", (event) => this.#step(event));
    }

    clear() {
        this.#into.replaceChildren();
    }

    show(content: Content) {
        const { rows, columns } = content;
        [this.#rows, this.#columns] = [rows, columns];
        this.#table.setAttribute("aria-label", content.title);
        setText(this.#corner, content.corner);
        resize(this.#head, columns.length + 1, () => header("col"));
        columns.forEach((line, j) => fillHeader(this.#head.children[j + 1]!, line));
        resize(this.#body, rows.length, () => {
            const row = document.createElement("tr");
            row.append(header("row"));
            return row;
        });
        rows.forEach((line, i) => {
            const row = this.#body.children[i]!;
            resize(row, columns.length + 1, () => Object.assign(document.createElement("td"), { tabIndex: -1 }));
            fillHeader(row.children[0]!, line);
            columns.forEach((column, j) => fillCell(row.children[j + 1] as HTMLElement, content.cell(line.index, column.index)));
        });
        const first = this.#body.querySelector("td");
        if (first && !(this.#stop && this.#body.contains(this.#stop))) this.#stopAt(first);
        if (this.#into.firstChild !== this.#table) this.#into.replaceChildren(this.#table);
    }

    /** Highlights the headers of two faces and their common cell. With one face, highlights its whole row or column. */
    mark(row: number | undefined, column: number | undefined) {
        this.#columns.forEach((line, j) => this.#head.children[j + 1]?.classList.toggle("lit", line.index === column));
        this.#rows.forEach((line, i) => {
            const [head, ...cells] = this.#body.children[i]?.children ?? [];
            head?.classList.toggle("lit", line.index === row);
            cells.forEach((cell, j) => {
                const [across, down] = [line.index === row, this.#columns[j]?.index === column];
                const both = row !== undefined && column !== undefined;
                cell.classList.toggle("lit", both ? across && down : across || down);
            });
        });
    }

    #focused(): HTMLTableCellElement | undefined {
        const element = document.activeElement;
        return element instanceof HTMLTableCellElement && this.#body.contains(element) ? element : undefined;
    }

    #stopAt(cell: HTMLTableCellElement) {
        if (this.#stop) this.#stop.tabIndex = -1;
        cell.tabIndex = 0;
        this.#stop = cell;
    }

    #step(event: KeyboardEvent) {
        const step = STEPS[event.key];
        const cell = this.#focused();
        if (!step || !cell || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        const within = (value: number, count: number) => Math.max(0, Math.min(count - 1, value));
        const row = within((cell.parentElement as HTMLTableRowElement).sectionRowIndex + step[0], this.#rows.length);
        const column = within(cell.cellIndex - 1 + step[1], this.#columns.length);
        (this.#body.children[row]?.children[column + 1] as HTMLElement | undefined)?.focus();
    }
}

function cellOf(event: Event): HTMLTableCellElement | undefined {
    return (event.target instanceof Element && event.target.closest("td")) || undefined;
}

/** Appends children from `make`, or removes the last ones, until there are `count`. */
function resize(parent: Element, count: number, make: () => Element) {
    while (parent.children.length > count) parent.lastElementChild?.remove();
    while (parent.children.length < count) parent.append(make());
}

function header(scope: "row" | "col"): HTMLElement {
    const cell = document.createElement("th");
    cell.scope = scope;
    const frame = cell.appendChild(document.createElement("span"));
    frame.className = "face";
    frame.append(document.createElement("canvas"), document.createElement("span"));
    return cell;
}

function fillHeader(cell: Element, line: Line) {
    paintCrop(cell.querySelector("canvas")!, line.crop);
    setText(cell.querySelector("span > span")!, line.name);
}

function fillCell(cell: HTMLElement, { text, share, best }: ReturnType<Content["cell"]>) {
    setText(cell, text);
    cell.style.setProperty("--share", `${share}%`);
    cell.classList.toggle("middling", share > MIDDLING);
    cell.classList.toggle("strong", share > STRONG);
    cell.classList.toggle("best", best);
}

function setText(element: Element, text: string) {
    if (element.textContent !== text) element.textContent = text;
}
