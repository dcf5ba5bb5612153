wit_bindgen::generate!({
    path: "../../wit/0.1.0",
    world: "mountgate:policy/policy",
    pub_export_macro: true,
    export_macro_name: "export_policy",
    additional_derives: [PartialEq],
});
