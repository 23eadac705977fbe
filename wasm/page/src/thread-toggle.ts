// The switch between one thread and all cores. Its state is stored between visits.

const KEY = "ifr-all-cores";

export class ThreadToggle {
    /** Called with the wanted number of threads when the user changes the switch. */
    changed: (threads: number) => void = () => {};
    #box: HTMLInputElement;
    #note: HTMLElement;
    #lost = false;

    constructor(box: HTMLElement, note: HTMLElement) {
        this.#box = box as HTMLInputElement;
        this.#note = note;
        const obstacle = !crossOriginIsolated
            ? "Not available: this needs HTTPS or a server on this machine, and the headers COOP and COEP."
            : navigator.hardwareConcurrency > 1 ? "" : "This device has only one core.";
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

    /** The wanted number of threads. */
    get threads(): number {
        return this.#box.checked ? Math.min(navigator.hardwareConcurrency, 64) : 1;
    }

    /** Displays the number of threads in use, or why it is one in spite of the switch. */
    got(threads: number) {
        if (this.threads < 2) return;
        if (threads > 1) this.#note.textContent = `${threads} threads`;
        else this.#note.textContent = this.#lost ? "One thread is used, because a thread failed. Switch off and on to try again." : "This browser allows only one thread.";
    }

    /** Records that a thread has crashed. One thread is used until the user changes the switch or reloads the page. */
    lost() {
        this.#lost = true;
    }
}

// Browsers may refuse storage. The switch is then off at every visit.
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
