// What a screen reader is told: in a region of its own, so that what is only seen may change with every frame of a camera.

/** Milliseconds between two announcements of something live; a change must last for a part of it to be told. */
const LEAST_PAUSE = 3000;
const SETTLED = 700;

export class Announcer {
    #region: HTMLElement;
    #said: string | undefined;
    #next: { text: string; kind: string } | undefined;
    #timer: number | undefined;
    #last = -Infinity;

    /** `region` has `aria-live` and nothing else writes to it. */
    constructor(region: HTMLElement) {
        this.#region = region;
    }

    /**
     * Tells `text`. When it is `live`, that is of a camera, only what is of another `kind` than the last is told, and seldom:
     * numbers change with every frame.
     */
    say(text: string, kind: string, live: boolean) {
        this.#next = live && kind === this.#said ? undefined : { text, kind };
        if (!live) return this.#speak();
        if (!this.#next) return this.#drop();
        const pause = Math.max(SETTLED, this.#last + LEAST_PAUSE - performance.now());
        this.#timer ??= window.setTimeout(() => this.#speak(), pause);
    }

    #speak() {
        const next = this.#next;
        this.#drop();
        if (!next) return;
        this.#said = next.kind;
        this.#last = performance.now();
        if (this.#region.textContent !== next.text) this.#region.textContent = next.text;
    }

    #drop() {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#next = undefined;
    }
}
