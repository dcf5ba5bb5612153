//! What wasmtime makes of `wit/0.1.0`. Nothing outside of the conversions, the imports and the parsers' tests looks in here.

wasmtime::component::bindgen!({
    path: "../wit/0.1.0",
    world: "mountgate:policy/policy",
    imports: { default: trappable },
});
