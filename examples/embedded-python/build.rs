//! Has the program find libpython where the interpreter that it was built for has it, be that the
//! system's or not.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
