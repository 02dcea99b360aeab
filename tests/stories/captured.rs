//! Captured traffic: applications that know of no proxy, each in a network namespace of its own, and what is to be seen between them.

mod bypass;
mod ending;
mod live;
mod stage;
mod wire;
