// The errors that come from the glue and from WebAssembly itself, as sentences: of objects that were freed, and of a module that stopped.

type Glue = Pick<typeof import("./ifr_wasm.js"), "FaceAnalyzer" | "Network" | "decode" | "similarity" | "version">;
type Call = (this: unknown, ...args: unknown[]) => unknown;

/** What `glue` exports, with errors that are sentences. Its classes are changed where they are. */
export function spoken(glue: Glue): Glue {
    for (const type of [glue.FaceAnalyzer, glue.Network]) guardClass(type);
    const { FaceAnalyzer, decode, similarity, version } = glue;
    FaceAnalyzer.create = guard(FaceAnalyzer.create);
    return { FaceAnalyzer, Network: glue.Network, decode: guard(decode), similarity: guard(similarity), version };
}

type Freeable = { __wbg_ptr?: number };
const isFreed = (object: unknown) => (object as Freeable).__wbg_ptr === 0;

function guardClass(type: { name: string; prototype: object }) {
    const own = Object.getOwnPropertyDescriptors(type.prototype);
    for (const [name, property] of Object.entries(own)) {
        if (["constructor", "free", "__destroy_into_raw"].includes(name)) continue;
        if (typeof property.value === "function") property.value = guard(property.value, type.name);
        if (property.get) property.get = guard(property.get, type.name);
        Object.defineProperty(type.prototype, name, property);
    }
    const prototype = type.prototype as { free(): void; [Symbol.dispose]?: () => void };
    const release = prototype.free;
    // Once more is no mistake: a `using` after an early `free()` comes to that.
    prototype.free = function () {
        if (!isFreed(this)) release.call(this);
    };
    if (Symbol.dispose) prototype[Symbol.dispose] = prototype.free;
}

/** `call` with its errors told; for a method, `owner` names the class whose objects must not have been freed. */
function guard<F>(call: F, owner?: string): F {
    const guarded: Call = function (...args) {
        if (owner && isFreed(this)) throw new Error(`This ${owner} was freed and cannot be used any more.`);
        try {
            return (call as Call).apply(this, args);
        } catch (error) {
            if (!(error instanceof WebAssembly.RuntimeError)) throw error;
            throw new Error(`ifr stopped, load it again to go on: there was not enough memory, or an internal error (${error.message}).`, { cause: error });
        }
    };
    return guarded as F;
}
