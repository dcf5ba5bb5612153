// The types of policies in JavaScript. They follow wit/0.1.0, which describes each field.

export interface MountOption { name: string; value?: string | null }
export type PropagationType = "shared" | "slave" | "private" | "unbindable";
export type Operation =
    | { tag: "mount" }
    /** True for --rbind. */
    | { tag: "bind"; val: boolean }
    /** True if only the mount point changes. */
    | { tag: "remount"; val: boolean }
    | { tag: "move" }
    | { tag: "set-propagation"; val: { kind: PropagationType; recursive: boolean } }
    | { tag: "unmount"; val: { lazy: boolean; force: boolean; recursive: boolean } };
export interface Request {
    operation: Operation;
    source?: string | null;
    target: string;
    fstype?: string | null;
    options: MountOption[];
}
export interface Device { major: number; minor: number }
/** What a place is, whatever it's called: a file system and a path in it. */
export interface Location { device: Device; path: string }
export type Via = "target" | "peer" | "slave" | "same-file-system" | "moved-from" | "below" | "brought-along";
/** A path of the host at which the request will be seen. */
export interface Place { path: string; location: Location; via: Via }
export type FileKind = "directory" | "regular" | "block-device" | "char-device" | "fifo" | "socket";
export interface ResolvedPath {
    path: string;
    kind: FileKind;
    location?: Location | null;
    /** Of a block device or an image that a new mount shows or writes: the locations of its bytes. Of what is bound, moved or remounted: the images behind its loop device. */
    storage: Location[];
    device?: Device | null;
    symlinks: string[];
    coveringMount?: number | bigint | null;
}
export interface OptionPath { option: string; found: ResolvedPath }
export interface Label { key: string; value: string }
export interface Peer {
    uid: number;
    gid: number;
    pid: number;
    cgroup: string;
    unit?: string | null;
    pod?: string | null;
    container?: string | null;
    mountNamespace: number | bigint;
}
export interface Requester { uid: number; gid: number; pid: number; labels: Label[]; peer?: Peer | null }
export type Edit =
    | { tag: "set-source"; val: string }
    | { tag: "set-target"; val: string }
    | { tag: "set-fstype"; val: string }
    | { tag: "add-option"; val: MountOption }
    | { tag: "drop-option"; val: string };
/** Everything that a policy may know about one request. */
export interface Review {
    request: Request;
    original: Request;
    edits: { policy: string; change: Edit }[];
    source?: ResolvedPath | null;
    target: ResolvedPath;
    optionPaths: OptionPath[];
    requester: Requester;
    places: Place[];
}
export interface Denial { code: string; reason: string; field?: string | null; hint?: string | null }
export type Verdict = { tag: "allow" } | { tag: "deny"; val: Denial } | { tag: "rewrite"; val: Edit[] };
export interface Mount {
    id: number | bigint;
    parent: number | bigint;
    device: Device;
    root: string;
    target: string;
    options: string[];
    optionalFields: string[];
    fstype: string;
    source: string;
    superOptions: string[];
}
export interface Outcome {
    request: Request;
    requester: Requester;
    status: { tag: "applied"; val?: number | bigint | null } | { tag: "failed"; val: string } | { tag: "denied"; val: Denial };
}
/** The host's mounts. A test gives its own object with the functions that the policy calls. */
export interface Mounts {
    count(): number | bigint;
    page(offset: number, limit: number): Mount[];
    at(target: string): Mount[];
    covering(path: string): Mount | null | undefined;
    below(path: string, limit: number): Mount[];
    countBelow(path: string): number | bigint;
    countIn(folder: Location): number | bigint;
    bySource(source: string, limit: number): Mount[];
    countBySource(source: string): number | bigint;
    byDevice(device: Device, limit: number): Mount[];
    byId(id: number | bigint): Mount | null | undefined;
    locate(paths: string[]): (Location | null | undefined)[];
    follow(paths: string[]): string[][];
    along(paths: string[]): Location[][];
    around(of: Location[]): Location[];
    names(of: Location, limit: number): string[];
}
export interface Problem { path: string; message: string }

/** A policy. */
export interface Policy<Settings = any> {
    name: string;
    version: string;
    kind: "validating" | "mutating";
    help: string;
    /** The codes of all denials. */
    codes?: string[];
    /** The fields of the request that rewrites change. */
    changes?: ("source" | "target" | "fstype" | "options")[];
    /** The JSON Schema of each setting. One without a default is required. mountgate checks the settings against it. */
    settings?: Record<string, object>;
    /** Checks what a schema can't say. */
    check?(settings: Settings): Problem[];
    /** Judges a request. What it throws is a failure, which denies the request. */
    evaluate(settings: Settings, review: Review, mounts: Mounts): Verdict;
    /** Is told how a request ended. A policy without this function isn't asked. */
    observe?(settings: Settings, outcome: Outcome, mounts: Mounts): void;
}

export function plugin(policy: Policy, table: Mounts): object;
export function withDefaults<Settings>(policy: Policy<Settings>, settings?: Partial<Settings>): Settings;
export const ALLOW: Verdict;
/** Makes a denial. The code is in kebab case; control characters in the texts are escaped. */
export function deny(code: string, field: string, reason: string, hint?: string): Verdict;
export function rewrite(...edits: Edit[]): Verdict;
export function addOption(name: string, value?: string): Edit;
export function dropOption(name: string): Edit;
export function setSource(source: string): Edit;
export function setTarget(target: string): Edit;
export function setFstype(fstype: string): Edit;
/** Which of some words counts: the one that was given last. */
export function lastOf(options: MountOption[], ...names: string[]): string | undefined;
/** Whether a location is a folder's, or lies below it. */
export function liesIn(location: Location, folder: Location): boolean;
/** Folders of the settings, as the places that they lead to. */
export class Folders {
    constructor(paths: string[], mounts: Pick<Mounts, "locate">);
    /** The path of the first folder that one of these locations lies in. */
    holding(locations: Location[]): string | undefined;
}
/** All locations that a request is seen at, with all that they lie in under any name. */
export function placesOf(review: Review, mounts: Pick<Mounts, "around">): Location[];
