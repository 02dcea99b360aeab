//! What Sluice promises, shown with the real executable: each story is a sentence that stays true.

mod apiserver;
mod architecture;
mod charts;
mod check;
mod demo;
mod describe;
mod edge;
mod envoy;
mod gateway_tls;
mod hardening;
mod install;
mod kubectl;
mod kubernetes;
mod kubernetes_objects;
mod mesh;
mod operations;
mod original_dst;
mod reload;
mod rollout;
mod routing;
mod scale;
mod shop;
mod sidecar;
mod source;
mod tunnels;
mod upstream;
