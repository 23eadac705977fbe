// The switch between one thread and all cores, remembered between visits.

const KEY = "ifr-all-cores";

export class Cores {
    /** Called with the number of threads that is wanted now. */
    changed: (threads: number) => void = () => {};
    #box: HTMLInputElement;
    #note: HTMLElement;

    constructor(box: HTMLElement, note: HTMLElement) {
        this.#box = box as HTMLInputElement;
        this.#note = note;
        const obstacle = !crossOriginIsolated
            ? "Not here: the server must send this page isolated (COOP and COEP), over HTTPS or from this machine."
            : navigator.hardwareConcurrency > 1 ? "" : "This device has one core.";
        this.#box.disabled = obstacle !== "";
        this.#box.checked = !obstacle && remembered();
        this.#note.textContent = obstacle;
        this.#box.addEventListener("change", () => {
            remember(this.#box.checked);
            this.#note.textContent = "";
            this.changed(this.threads);
        });
    }

    /** Threads that are wanted. */
    get threads(): number {
        return this.#box.checked ? Math.min(navigator.hardwareConcurrency, 64) : 1;
    }

    /** Says so when the wish was not granted. */
    got(threads: number) {
        if (this.threads > 1) this.#note.textContent = threads > 1 ? `${threads} threads` : "This browser allows one thread.";
    }
}

// Storage may be refused: then the switch is off at every visit.
function remembered(): boolean {
    try {
        return localStorage.getItem(KEY) === "yes";
    } catch {
        return false;
    }
}

function remember(on: boolean) {
    try {
        localStorage.setItem(KEY, on ? "yes" : "no");
    } catch {}
}
