# The kernels of cuda/ on the emulator. Every op against its reference, in both directions, under each order of threads.
foreach(schedule forward reverse warps random:7)
  foreach(base test_ops test_ops_train)
    add_test(NAME cuda/${base}/${schedule} COMMAND ${base} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(
      cuda/${base}/${schedule} PROPERTIES TIMEOUT 600
      ENVIRONMENT "ADZE_TEST_DEVICE=cusim;ADZE_CUSIM_SCHEDULE=${schedule};ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib")
  endforeach()
endforeach()
foreach(base test_ops test_ops_train)
  add_dependencies(${base} adze_cusim)
endforeach()

adze_test(cuda/test_device_calls.c)
add_dependencies(test_device_calls adze_cusim)
target_link_libraries(test_device_calls PRIVATE dl)
set_property(TEST cuda/test_device_calls PROPERTY ENVIRONMENT "ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib")
# On a device that is not the thread's own: each call has to go there, and none may leave a context elsewhere.
foreach(base test_device_calls test_recording)
  add_test(NAME cuda/${base}/second COMMAND ${base} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_property(TEST cuda/${base}/second PROPERTY ENVIRONMENT "ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib;ADZE_TEST_DEVICE=cusim:1;XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/tests/cache")
endforeach()

# A training step, with the trainer and the small method of train/test_resume. Its libraries are the ones of tiny_train.
adze_cuda_test(cuda/test_training_step.c)
target_sources(test_training_step PRIVATE train/tiny_method.c ../train/ranks.c ../train/trainer.c)
target_link_libraries(test_training_step PRIVATE adze_program_parts adze_static)
target_include_directories(test_training_step PRIVATE ${CMAKE_SOURCE_DIR} cusim/include)
add_test(NAME cuda/test_training_step/random COMMAND test_training_step WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set(step_environment "ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib;XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/tests/cache")
set_property(TEST cuda/test_training_step PROPERTY ENVIRONMENT "${step_environment}")
set_property(TEST cuda/test_training_step/random PROPERTY ENVIRONMENT "${step_environment};ADZE_CUSIM_SCHEDULE=random:7")

# The backend as programs use it: recordings, the reference cases, and whole runs, each with a plan cache of its own.
set(cuda_environment "ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib;XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/tests/cache")
adze_test(cuda/test_recording.c)
add_dependencies(test_recording adze_cusim)
set_property(TEST cuda/test_recording PROPERTY ENVIRONMENT "${cuda_environment}")
file(GLOB cuda_ops CONFIGURE_DEPENDS golden/ops/*.json)
file(GLOB cuda_patchcore CONFIGURE_DEPENDS golden/patchcore/*.json)
list(FILTER cuda_patchcore EXCLUDE REGEX "pipeline-(full|wrn|r18)") # networks of full size: ./run gpu-check
add_test(NAME cuda/golden-ops COMMAND golden --quiet --device cusim ${cuda_ops} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME cuda/golden-rd COMMAND golden --quiet --device cusim tests/golden/rd/tiny_test.json WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME cuda/golden-patchcore COMMAND golden --quiet --device cusim ${cuda_patchcore} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(cuda/golden-ops cuda/golden-rd cuda/golden-patchcore PROPERTIES TIMEOUT 600 ENVIRONMENT "${cuda_environment}")
foreach(method cflow simplenet destseg)
  file(GLOB cases CONFIGURE_DEPENDS golden/${method}/*.json)
  add_test(NAME cuda/golden-${method} COMMAND golden --quiet --device cusim ${cases} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(cuda/golden-${method} PROPERTIES TIMEOUT 900 ENVIRONMENT "${cuda_environment};ADZE_CUSIM_CHECKS=fast")
endforeach()
# Operands in bfloat16, by the rule of golden/bf16.
set(cuda_bf16 tests/golden)
add_test(NAME cuda/golden-bf16 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
         COMMAND golden --quiet --device cusim --precision bf16 ${cuda_bf16}/ops/conv2d.json ${cuda_bf16}/ops/conv2d_same.json
                 ${cuda_bf16}/ops/conv_transpose2d.json ${cuda_bf16}/ops/linear.json ${cuda_bf16}/ops/matmul.json ${cuda_bf16}/rd/tiny_test.json
                 ${cuda_bf16}/cflow/coupling.json ${cuda_bf16}/cflow/coupling-wide.json ${cuda_bf16}/cflow/coupling-current.json)
set_tests_properties(cuda/golden-bf16 PROPERTIES TIMEOUT 300 ENVIRONMENT "${cuda_environment};ADZE_CUSIM_CHECKS=fast")
# A cuBLASLt without bias and ReLU behind the product: the own epilogue.
add_test(NAME cuda/golden-coupling COMMAND golden --quiet --device cusim tests/golden/cflow/coupling.json WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(cuda/golden-coupling PROPERTIES ENVIRONMENT "${cuda_environment};ADZE_CUSIM_NO_RELU=1")

add_test(NAME cuda/spills COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda/spills.sh ${CMAKE_BINARY_DIR}/cuda)
set_tests_properties(cuda/spills PROPERTIES SKIP_RETURN_CODE 77)
foreach(name device device_memory)
  add_test(NAME cuda/test_${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_${name}.sh $<TARGET_FILE_DIR:adze-train>
           ${CMAKE_BINARY_DIR}/tests/make_weights)
  set_tests_properties(cuda/test_${name} PROPERTIES TIMEOUT 900)
endforeach()
add_test(NAME cuda/test_device_cache COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_device_cache.sh $<TARGET_FILE_DIR:adze-train>
         ${CMAKE_BINARY_DIR}/tests/make_weights ${CMAKE_BINARY_DIR}/tests/tiny_train)
set_tests_properties(cuda/test_device_cache PROPERTIES TIMEOUT 300)
add_dependencies(adze-train adze_cusim) # so that a build of the programs can be tested with it

# How every kernel's accesses fall on memory is what access.txt says.
find_program(ADZE_PYTHON python3)
if(ADZE_PYTHON)
  add_test(NAME cuda/access COMMAND ${ADZE_PYTHON} bench/cuda_static.py ${CMAKE_BINARY_DIR} --check tests/cuda/access.txt
           WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(cuda/access PROPERTIES TIMEOUT 600)
endif()

# The parts of ./run gpu-check and its report, with stubs for what it runs.
add_test(NAME cuda/gpu_check COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda/gpu_check.sh ${CMAKE_SOURCE_DIR})

# A training step as bench-train times it, twice beyond the first one, so that it is recorded: rows drawn on the host, noise on the device.
set(cflow_step --size 64 --batch 4 --set blocks=1)
set(simplenet_step --size 32 --batch 1)
foreach(method cflow simplenet)
  add_test(NAME bench/bench_train/${method} COMMAND bench-train --device cusim --method ${method} --backbone resnet18 ${${method}_step} --check 2 --repeat 1)
  set_tests_properties(bench/bench_train/${method} PROPERTIES TIMEOUT 300 ENVIRONMENT "${cuda_environment};ADZE_CUSIM_CHECKS=fast"
                       PASS_REGULAR_EXPRESSION "loss1 [0-9.]+\n.*an emulator's times say nothing")
endforeach()
add_dependencies(bench-train adze_cusim)

# Every kernel at the benchmark's shapes, made small, agrees with another implementation.
add_test(NAME bench/bench_kernels COMMAND bench-kernels --device cpu --batch 1 --repeat 1 --shrink 4)
add_test(NAME bench/bench_kernels/cusim COMMAND bench-kernels --device cusim --batch 1 --repeat 1 --shrink 8)
set_tests_properties(bench/bench_kernels bench/bench_kernels/cusim PROPERTIES TIMEOUT 300 ENVIRONMENT "${cuda_environment};ADZE_CUSIM_CHECKS=fast")
set_tests_properties(bench/bench_kernels/cusim PROPERTIES PASS_REGULAR_EXPRESSION "its times say nothing.*sgd with momentum +sgd with momentum")
add_dependencies(bench-kernels adze_cusim)
