# For arm64 on another processor: Debian's cross compiler, and the folder of native/arm64/sysroot.sh.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
get_filename_component(ROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/arm64-sysroot" ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${ROOT})
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# The libraries that the shared ones lean on.
add_link_options(-Wl,-rpath-link,${ROOT}/usr/lib/aarch64-linux-gnu)
# jconfig.h lies beside those of the compiler.
foreach(language C CXX)
  set(CMAKE_${language}_FLAGS_INIT "-isystem ${ROOT}/usr/include/aarch64-linux-gnu")
endforeach()
