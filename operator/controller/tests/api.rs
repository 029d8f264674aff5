//! Against a real apiserver (KUBECONFIG) with the CRDs installed: what it accepts and refuses, and what the controller
//! does as a process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api {
    mod controller;
    mod gateway;
    mod lease;
    mod schema;
    mod support;
}
