// What policies in JavaScript are written with. mountgate.d.ts has the types and the documentation.

/** Makes what a component exports of a policy. `table` is the module `mountgate:policy/mount-table@0.1.0`. */
export function plugin(policy, table) {
    return {
        describe: () => ({
            name: policy.name,
            version: policy.version,
            kind: policy.kind,
            help: policy.help,
            settingsSchema: JSON.stringify(schema(policy)),
        }),
        prepare: text => toldAsProblem(() => {
            const settings = withDefaults(policy, JSON.parse(text));
            const problems = policy.check?.(settings) ?? [];
            if (problems.length > 0) throw failure(problems);
            return {
                prepared: toUtf8(JSON.stringify(settings)),
                denialCodes: codes(policy),
                changes: policy.changes ?? [],
                observes: policy.observe !== undefined,
            };
        }),
        evaluate: (prepared, review) => told(() => policy.evaluate(JSON.parse(fromUtf8(prepared)), review, table)),
        observe: (prepared, outcome) => told(() => policy.observe?.(JSON.parse(fromUtf8(prepared)), outcome, table)),
    };
}

/** The settings of a policy with their defaults, for tests. */
export function withDefaults(policy, settings = {}) {
    const all = {};
    for (const [name, property] of Object.entries(policy.settings ?? {})) {
        if (property.default !== undefined) all[name] = property.default;
    }
    return { ...all, ...settings };
}

function schema(policy) {
    const properties = policy.settings ?? {};
    const required = Object.keys(properties).filter(name => properties[name].default === undefined);
    return { title: policy.name, type: "object", properties, required, additionalProperties: false };
}

function codes(policy) {
    for (const code of policy.codes ?? []) checkCode(code);
    return policy.codes ?? [];
}

/** The tools that make components differ in what they take for an error of the contract: an object that was thrown, or its payload. */
function failure(payload) {
    return Object.assign(new Error(typeof payload === "string" ? payload : JSON.stringify(payload)), { payload });
}

/** Calls a function, and makes what it throws a failure with its message. */
function told(call) {
    try {
        return call();
    } catch (error) {
        if (error?.payload !== undefined) throw Array.isArray(error.payload) ? error.payload : error;
        throw failure(plain(`${error?.message ?? error}`));
    }
}

/** As `told`, for `prepare`, whose failures are lists of problems. */
function toldAsProblem(call) {
    return told(() => {
        try {
            return call();
        } catch (error) {
            if (error?.payload !== undefined) throw error;
            throw failure([{ path: "", message: plain(`${error?.message ?? error}`) }]);
        }
    });
}

export const ALLOW = { tag: "allow" };

export function deny(code, field, reason, hint) {
    checkCode(code);
    const said = plain(reason).trim() === "" ? "no reason was given" : plain(reason);
    return { tag: "deny", val: { code, reason: said, field: plain(field), hint: hint == null ? undefined : plain(hint) } };
}

export function rewrite(...edits) {
    return { tag: "rewrite", val: edits };
}

export const addOption = (name, value) => ({ tag: "add-option", val: { name, value } });
export const dropOption = name => ({ tag: "drop-option", val: name });
export const setSource = source => ({ tag: "set-source", val: source });
export const setTarget = target => ({ tag: "set-target", val: target });
export const setFstype = fstype => ({ tag: "set-fstype", val: fstype });

/** Which of some words counts: the one that was given last. */
export function lastOf(options, ...names) {
    return options.map(option => option.name).filter(name => names.includes(name)).at(-1);
}

/** Whether a location is a folder's, or lies below it. */
export function liesIn(location, folder) {
    if (location.device.major !== folder.device.major || location.device.minor !== folder.device.minor) return false;
    return location.path === folder.path || location.path.startsWith(folder.path === "/" ? "/" : `${folder.path}/`);
}

/** Folders of the settings, as the places that they lead to. */
export class Folders {
    constructor(paths, mounts) {
        const found = paths.length === 0 ? [] : mounts.locate(paths);
        this.folders = paths.map((path, at) => {
            if (found[at] == null) throw new Error(`${path} leads nowhere`);
            return { path, location: found[at] };
        });
    }

    /** The path of the first folder that one of these locations lies in. */
    holding(locations) {
        return this.folders.find(folder => locations.some(location => liesIn(location, folder.location)))?.path;
    }
}

/** All locations that a request is seen at, with all that they lie in under any name. */
export function placesOf(review, mounts) {
    return mounts.around(review.places.map(place => place.location));
}

function checkCode(code) {
    if (!/^[a-z0-9-]{1,64}$/.test(code)) throw new Error(`${JSON.stringify(code)} can't be a code: write it as target-denied`);
}

/** A text without control characters and those that change the direction of writing. */
function plain(text) {
    // eslint-disable-next-line no-control-regex
    return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
        char => `\\u{${char.charCodeAt(0).toString(16)}}`);
}

// QuickJS has no TextEncoder.
function toUtf8(text) {
    return Uint8Array.from(unescape(encodeURIComponent(text)), char => char.charCodeAt(0));
}

function fromUtf8(bytes) {
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return decodeURIComponent(escape(text));
}
