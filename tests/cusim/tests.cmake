# The emulator, the backend compiled for it (lib/adze_cusim.so, never installed), and the emulator's own test.
# No sanitizer here: kernels are instrumented for the emulator's own checks, and run on stacks of its own.
enable_language(CXX)
set(ADZE_CUSIM_FLAGS -Wall -Wextra -Wshadow -Wvla -ffp-contract=off -fno-math-errno -O2 -g1)
set(ADZE_CUSIM_KERNEL_FLAGS ${ADZE_CUSIM_FLAGS} -std=c++20 -fsanitize=thread --param=tsan-instrument-func-entry-exit=0
    -fno-exceptions -fno-tree-sra -fno-tree-vectorize -fno-tree-slp-vectorize -fno-tree-loop-distribute-patterns -Wno-unused-function -Wno-unused-parameter -Wno-unknown-pragmas)

# cusim_kernels(target files...): objects of .cu files for the emulator.
function(cusim_kernels target)
  add_library(${target} OBJECT ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  set_target_properties(${target} PROPERTIES COMPILE_OPTIONS "${ADZE_CUSIM_KERNEL_FLAGS}")
  target_compile_definitions(${target} PRIVATE ADZE_CUSIM)
  target_include_directories(${target} BEFORE PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cusim/include)
endfunction()

add_library(adze_cusim SHARED cusim/cusim_block.c cusim/cusim_check.c cusim/cusim_count.c cusim/cusim_memory.c cusim/cusim_report.c
            cusim/cusim_runtime.c cusim/cusim_stream.c cusim/cusim_tensor.c
            cusim/cusim_conv.c cusim/cusim_cublaslt.c cusim/cusim_cudnn.c cusim/cusim_nccl.c)
set_target_properties(adze_cusim PROPERTIES PREFIX "" COMPILE_OPTIONS "${ADZE_CUSIM_FLAGS}" LINKER_LANGUAGE CXX)
target_compile_definitions(adze_cusim PUBLIC ADZE_CUSIM)
target_include_directories(adze_cusim BEFORE PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/cusim/include)
target_link_libraries(adze_cusim PRIVATE dl rt Threads::Threads m)

get_property(sources GLOBAL PROPERTY ADZE_CUDA_SOURCES)
set(kernels ${sources})
list(FILTER kernels INCLUDE REGEX "\\.cu$")
set(host ${sources})
list(FILTER host EXCLUDE REGEX "\\.cu$")
if(kernels)
  cusim_kernels(adze_cusim_kernels ${kernels})
  # Lines are counted (coverage.sh); atomically, since other counters would look like accesses of the kernels.
  target_compile_options(adze_cusim_kernels PRIVATE --coverage -fprofile-update=atomic -fprofile-exclude-files=.*/cusim/include/.*)
  target_link_options(adze_cusim PRIVATE --coverage)
  target_sources(adze_cusim PRIVATE $<TARGET_OBJECTS:adze_cusim_kernels>)
endif()
if(host)
  add_library(adze_cusim_host OBJECT ${host})
  target_compile_definitions(adze_cusim_host PRIVATE ADZE_CUSIM)
  target_include_directories(adze_cusim_host BEFORE PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cusim/include)
  target_sources(adze_cusim PRIVATE $<TARGET_OBJECTS:adze_cusim_host>)
  target_link_libraries(adze_cusim PRIVATE adze_static)
  target_link_options(adze_cusim PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/cusim.map -Wl,--as-needed -Wl,--no-undefined)
endif()
add_dependencies(golden adze_cusim) # --device cusim

# adze_cuda_test(path/test_x.c): a test of the CUDA backend's functions, on the emulator.
function(adze_cuda_test file)
  get_filename_component(base ${file} NAME_WE)
  adze_test(${file})
  target_link_libraries(${base} PRIVATE adze_cusim)
endfunction()

adze_cuda_test(cusim/test_cusim_libraries.c)
cusim_kernels(test_cusim_kernels cusim/cusim_mistakes.cu cusim/test_cusim_kernels.cu)
foreach(test test_cusim test_cusim_streams)
  adze_cuda_test(cusim/${test}.c)
  target_sources(${test} PRIVATE $<TARGET_OBJECTS:test_cusim_kernels>)
  set_target_properties(${test} PROPERTIES LINKER_LANGUAGE CXX)
endforeach()
adze_cuda_test(cusim/test_cusim_nccl.c)
