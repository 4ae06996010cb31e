//! Watching and publishing against a real API server, as the service account of `deploy/rbac.yaml`.

mod fixture;
mod operator;

mod adoption;
mod arrows;
mod fences;
mod interrupted;
mod kinds;
mod schedules;
mod seen;
mod troubled;
