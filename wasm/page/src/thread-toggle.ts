// The switch between one thread and all cores, remembered between visits.

const KEY = "ifr-all-cores";

export class ThreadToggle {
    /** Called with the number of threads that is wanted now. */
    changed: (threads: number) => void = () => {};
    #box: HTMLInputElement;
    #note: HTMLElement;
    #lost = false;

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
            this.#lost = false;
            this.changed(this.threads);
        });
    }

    /** Threads that are wanted. */
    get threads(): number {
        return this.#box.checked ? Math.min(navigator.hardwareConcurrency, 64) : 1;
    }

    /** Says so when the wish was not granted. */
    got(threads: number) {
        if (this.threads < 2) return;
        if (threads > 1) this.#note.textContent = `${threads} threads`;
        else this.#note.textContent = this.#lost ? "A thread stopped, so it is one until you try again." : "This browser allows one thread.";
    }

    /** A thread died: one is used until the switch is touched or the page is loaded again. */
    lost() {
        this.#lost = true;
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
