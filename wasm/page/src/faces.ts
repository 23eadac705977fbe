// The faces of one picture as a row of buttons. Pressing a button highlights its face.

import type { Face } from "../../pkg/index.js";
import { paintCrop } from "./crop.js";

/** Maximum number of buttons: the layout of thousands of buttons takes seconds. */
const MAX_BUTTONS = 100;

export class FaceList {
    #list: HTMLElement;
    #letter: string;
    #onPress: (index: number) => void;
    #more = Object.assign(document.createElement("span"), { className: "more" });

    constructor(list: HTMLElement, letter: string, onPress: (index: number) => void) {
        this.#list = list;
        this.#letter = letter;
        this.#onPress = onPress;
    }

    /**
     * Shows the faces. Existing buttons are reused, so that a press lasts longer than one camera frame. With `live` the
     * labels have no scores: screen readers would repeat a label with each change.
     */
    show(faces: Face[], live: boolean) {
        const buttons = this.#buttons();
        const count = Math.min(faces.length, MAX_BUTTONS);
        const surplus = buttons.splice(count);
        const focused = surplus.includes(document.activeElement as HTMLButtonElement);
        for (const button of surplus) button.remove();
        while (buttons.length < count) buttons.push(this.#add(buttons.length));
        buttons.forEach((button, index) => {
            const face = faces[index]!;
            const name = `${this.#letter}${index + 1}`;
            const title = live ? name : `${name}, score ${face.prob.toFixed(2)}`;
            if (button.title !== title) {
                button.title = title;
                button.setAttribute("aria-label", title);
            }
            paintCrop(button.querySelector("canvas")!, face.crop);
        });
        this.#more.textContent = `and ${faces.length - count} more`;
        if (faces.length > count) this.#list.append(this.#more);
        else this.#more.remove();
        if (focused) buttons.at(-1)?.focus();
    }

    /** Marks the face whose button is pressed, and the highlighted face; both are indices. */
    mark(pressed: number | undefined, lit: number | undefined) {
        this.#buttons().forEach((button, index) => {
            const state = String(index === pressed);
            if (button.getAttribute("aria-pressed") !== state) button.setAttribute("aria-pressed", state);
            button.classList.toggle("lit", index === lit);
        });
    }

    #buttons(): HTMLButtonElement[] {
        return [...this.#list.querySelectorAll("button")];
    }

    #add(index: number): HTMLButtonElement {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "face";
        const name = Object.assign(document.createElement("span"), { textContent: `${this.#letter}${index + 1}` });
        button.append(document.createElement("canvas"), name);
        button.addEventListener("click", () => this.#onPress(index));
        this.#list.insertBefore(button, this.#more.parentElement ? this.#more : null);
        return button;
    }
}
