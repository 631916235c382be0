# tvm_ffi_stable: the headers and the shared library of the Python package apache-tvm-ffi.
#
# pip builds in a fresh environment with a random name, so the package lies somewhere else in every build. Compiling
# against that path would make every command line new and a compiler cache useless: where links are possible the
# package is reached through a link of a fixed name in the build folder.

find_package(Python3 REQUIRED COMPONENTS Interpreter)

function(_tvm_ffi_config option result)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -m tvm_ffi.config ${option}
    OUTPUT_VARIABLE output
    ERROR_VARIABLE error
    RESULT_VARIABLE status
    OUTPUT_STRIP_TRAILING_WHITESPACE
  )
  if(NOT status EQUAL 0)
    message(
      FATAL_ERROR
        "`${Python3_EXECUTABLE} -m tvm_ffi.config ${option}` failed: the Python package apache-tvm-ffi is needed.\n"
        "pip installs it for the build; for a build with CMake alone: pip install apache-tvm-ffi.\n${error}"
    )
  endif()
  file(TO_CMAKE_PATH "${output}" output)
  set(${result} "${output}" PARENT_SCOPE)
endfunction()

_tvm_ffi_config(--includedir _tvm_ffi_include)
_tvm_ffi_config(--dlpack-includedir _tvm_ffi_dlpack_include)
_tvm_ffi_config(--libfiles _tvm_ffi_library)
message(STATUS "tvm-ffi library: ${_tvm_ffi_library}")

if(NOT WIN32)
  foreach(folder include dlpack_include)
    file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/tvm_ffi")
    file(CREATE_LINK "${_tvm_ffi_${folder}}" "${CMAKE_BINARY_DIR}/tvm_ffi/${folder}" SYMBOLIC)
    set(_tvm_ffi_${folder} "${CMAKE_BINARY_DIR}/tvm_ffi/${folder}")
  endforeach()
endif()

add_library(tvm_ffi_stable INTERFACE)
target_include_directories(tvm_ffi_stable SYSTEM INTERFACE "${_tvm_ffi_include}" "${_tvm_ffi_dlpack_include}")
target_link_libraries(tvm_ffi_stable INTERFACE "${_tvm_ffi_library}")
target_compile_features(tvm_ffi_stable INTERFACE cxx_std_17)
