//! Sets the library path of the program to the libpython of the interpreter that it was built for.
//! Builds nothing else.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
