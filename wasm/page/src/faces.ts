// The faces of one picture as a row of buttons, which stress a face.

import type { Face } from "../../pkg/index.js";
import { paintCrop } from "./crop.js";

/** A crowd has more faces than anyone looks through, and thousands of buttons take seconds. */
const SHOWN = 100;

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
     * Shows the faces. Buttons stay as they are, so that a press outlasts a frame. `live`: the scores are left out, which a
     * screen reader would read again and again.
     */
    show(faces: Face[], live: boolean) {
        const buttons = this.#buttons();
        const count = Math.min(faces.length, SHOWN);
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

    /** Which face is pressed, and which is stressed: by being pressed, or from elsewhere. */
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
