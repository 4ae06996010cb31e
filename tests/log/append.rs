//! Appending to a real server.
