# mlc_sample_rust: the static library that cargo builds from the workspace in rust/.
#
# cargo reads CARGO_*, RUSTC_WRAPPER and RUSTFLAGS from the environment of the build, so that a CI decides about caches
# and flags; only what decides where the result lies is looked at here.

find_program(CARGO_EXECUTABLE cargo)
if(NOT CARGO_EXECUTABLE)
  message(
    FATAL_ERROR
      "cargo was not found: the tokenizer is written in Rust.\n"
      "Install Rust (https://rustup.rs, Debian: cargo, conda-forge: rust) and put cargo on the PATH."
  )
endif()

set(_rust_target_dir "${CMAKE_BINARY_DIR}/rust")
if(NOT "$ENV{CARGO_TARGET_DIR}" STREQUAL "")
  get_filename_component(_rust_target_dir "$ENV{CARGO_TARGET_DIR}" ABSOLUTE)
endif()
set(_rust_output_dir "${_rust_target_dir}/release")
if(NOT "$ENV{CARGO_BUILD_TARGET}" STREQUAL "")
  set(_rust_output_dir "${_rust_target_dir}/$ENV{CARGO_BUILD_TARGET}/release")
endif()
if(MSVC)
  set(_rust_file "mlc_sample_rust.lib")
else()
  set(_rust_file "libmlc_sample_rust.a")
endif()

set(_rust_environment "")
if(DEFINED ENV{NUM_THREADS} AND NOT DEFINED ENV{CARGO_BUILD_JOBS})
  set(_rust_environment "CARGO_BUILD_JOBS=$ENV{NUM_THREADS}")
endif()

# The library is copied into the build folder: a CARGO_TARGET_DIR may be shared with other builds.
set(_rust_library "${CMAKE_BINARY_DIR}/${_rust_file}")
file(GLOB_RECURSE _rust_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/rust/*.rs" "${CMAKE_SOURCE_DIR}/rust/*.toml")
list(FILTER _rust_sources EXCLUDE REGEX "/rust/target/")
add_custom_command(
  OUTPUT "${_rust_library}"
  COMMAND
    "${CMAKE_COMMAND}" -E env ${_rust_environment} "${CARGO_EXECUTABLE}" build --release --locked --offline
    --manifest-path "${CMAKE_SOURCE_DIR}/rust/Cargo.toml" --target-dir "${_rust_target_dir}"
  COMMAND "${CMAKE_COMMAND}" -E copy "${_rust_output_dir}/${_rust_file}" "${_rust_library}"
  DEPENDS ${_rust_sources} "${CMAKE_SOURCE_DIR}/rust/Cargo.lock"
  COMMENT "Building the Rust library with cargo"
  VERBATIM
)
add_custom_target(mlc_sample_rust_build DEPENDS "${_rust_library}")

add_library(mlc_sample_rust STATIC IMPORTED GLOBAL)
set_target_properties(mlc_sample_rust PROPERTIES IMPORTED_LOCATION "${_rust_library}")
add_dependencies(mlc_sample_rust mlc_sample_rust_build)
# What Rust's standard library wants (`cargo rustc -- --print native-static-libs`).
if(WIN32)
  set(_rust_system_libraries ws2_32 userenv ntdll bcrypt advapi32)
else()
  find_package(Threads REQUIRED)
  set(_rust_system_libraries Threads::Threads ${CMAKE_DL_LIBS} m)
endif()
set_target_properties(mlc_sample_rust PROPERTIES INTERFACE_LINK_LIBRARIES "${_rust_system_libraries}")
