// Fails at a label of eight bytes.
import { ALLOW } from "./vendor/mountgate.js";

/** @type {import("./vendor/mountgate.js").Policy<{ clean: boolean }>} */
export const policy = {
    name: "label-in-js",
    version: "0.1.0",
    kind: "validating",
    help: "has a bug",
    codes: [],
    settings: { clean: { description: "Whether the bug is taken out.", type: "boolean", default: false } },

    evaluate(settings, review) {
        const found = review.requester.labels.find((label) => label.key === "zone-key");
        if (found !== undefined && !settings.clean) return found.missing.value;
        return ALLOW;
    },
};
