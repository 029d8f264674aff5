//! Against a real apiserver (KUBECONFIG) with the CRDs installed: what it accepts and refuses, and what the controller
//! does as a process.

mod api {
    mod controller;
    mod schema;
    mod support;
}
