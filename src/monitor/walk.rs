//! A long random walk.
