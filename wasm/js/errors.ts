// Errors with a code: of freed objects and of a module that crashed. Rust adds the codes of its own errors.

/**
 * The `code` of an error, where it has one. `unknown_format`, `bad_picture`: `decode` cannot read the bytes. `freed`: the object was
 * freed. `crashed`: the module stopped and must be loaded again.
 */
export type ErrorCode = "unknown_format" | "bad_picture" | "freed" | "crashed";

function failure(code: ErrorCode, message: string, cause?: unknown): Error {
    return Object.assign(new Error(message, { cause }), { code });
}

/** After a crash the objects of the module stay locked, so that every later call fails too. */
let crashed = false;

type Glue = Pick<typeof import("./ifr_wasm.js"), "FaceAnalyzer" | "Network" | "decode" | "similarity" | "version">;
type Call = (this: unknown, ...args: unknown[]) => unknown;

/** The exports of `glue`, with errors that have codes. Its classes are changed in place. */
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
    // Once more is no mistake: a `using` after an early `free()` comes to that.
    prototype.free = function () {
        if (!isFreed(this)) release.call(this);
    };
    if (Symbol.dispose) prototype[Symbol.dispose] = prototype.free;
}

/** Wraps `call` so that its errors have codes. For a method, `owner` is the name of the class. */
function guard<F>(call: F, owner?: string): F {
    const guarded: Call = function (...args) {
        if (owner && isFreed(this)) throw failure("freed", `This ${owner} was freed and cannot be used any more.`);
        try {
            return (call as Call).apply(this, args);
        } catch (error) {
            const trapped = error instanceof WebAssembly.RuntimeError;
            const code = (error as { code?: ErrorCode } | null)?.code;
            crashed ||= trapped || code === "crashed";
            if (!trapped && (code !== undefined || !crashed)) throw error;
            const said = error instanceof Error ? error.message : String(error);
            throw failure("crashed", `ifr stopped, load it again to go on: there was not enough memory, or an internal error (${said}).`, error);
        }
    };
    return guarded as F;
}
