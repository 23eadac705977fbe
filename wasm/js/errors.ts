// Adds codes to the errors of freed objects and of a crashed module. The Rust code sets the other codes.

/**
 * The `code` of an error; not every error has one.
 *
 * - `unknown_format`: `decode` does not support the format.
 * - `bad_picture`: the picture is damaged or too large.
 * - `freed`: the object was freed.
 * - `crashed`: the module has stopped and must be loaded again.
 */
export type ErrorCode = "unknown_format" | "bad_picture" | "freed" | "crashed";

function failure(code: ErrorCode, message: string, cause?: unknown): Error {
    return Object.assign(new Error(message, { cause }), { code });
}

/** The module has crashed. Its objects stay locked, so that every later call fails too. */
let crashed = false;

type Glue = Pick<typeof import("./ifr_wasm.js"), "FaceAnalyzer" | "Network" | "decode" | "similarity" | "version">;
type Call = (this: unknown, ...args: unknown[]) => unknown;

/** The exports of `glue`, wrapped so that errors have codes. Changes its classes in place. */
export function withCodes(glue: Glue): Glue {
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
    // A second call has no effect: `using` frees an object that the caller has freed already.
    prototype.free = function () {
        if (!isFreed(this)) release.call(this);
    };
    if (Symbol.dispose) prototype[Symbol.dispose] = prototype.free;
}

/** Wraps `call` so that its errors have codes. For a method, `owner` is the name of the class. */
function guard<F>(call: F, owner?: string): F {
    const guarded: Call = function (...args) {
        if (owner && isFreed(this)) throw failure("freed", `This ${owner} was freed and can no longer be used.`);
        try {
            return (call as Call).apply(this, args);
        } catch (error) {
            const trapped = error instanceof WebAssembly.RuntimeError;
            const code = (error as { code?: ErrorCode } | null)?.code;
            crashed ||= trapped || code === "crashed";
            if (!trapped && (code !== undefined || !crashed)) throw error;
            const reason = error instanceof Error ? error.message : String(error);
            throw failure("crashed", `ifr has stopped and must be loaded again: out of memory, or an internal error (${reason}).`, error);
        }
    };
    return guarded as F;
}
