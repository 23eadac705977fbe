// Announcements for screen readers. They have a separate live region, because the visible text changes with every
// camera frame.

/** Minimum time between two announcements about a camera, in milliseconds. */
const MIN_PAUSE = 3000;
/** Time that a change must persist before it is announced, in milliseconds. */
const MIN_DURATION = 700;

export class Announcer {
    #region: HTMLElement;
    /** Kind of the last announcement. */
    #announced: string | undefined;
    #next: { text: string; kind: string } | undefined;
    #timer: number | undefined;
    #last = -Infinity;

    /** `region` must have `aria-live`. Only this class may write to it. */
    constructor(region: HTMLElement) {
        this.#region = region;
    }

    /**
     * Announces `text` immediately. A `live` text, which comes from a camera, is announced after a pause, and only if
     * its `kind` differs from the last announcement: its numbers change with every frame.
     */
    say(text: string, kind: string, live: boolean) {
        this.#next = live && kind === this.#announced ? undefined : { text, kind };
        if (!live) return this.#speak();
        if (!this.#next) return this.#drop();
        const pause = Math.max(MIN_DURATION, this.#last + MIN_PAUSE - performance.now());
        this.#timer ??= window.setTimeout(() => this.#speak(), pause);
    }

    #speak() {
        const next = this.#next;
        this.#drop();
        if (!next) return;
        this.#announced = next.kind;
        this.#last = performance.now();
        if (this.#region.textContent !== next.text) this.#region.textContent = next.text;
    }

    #drop() {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#next = undefined;
    }
}
