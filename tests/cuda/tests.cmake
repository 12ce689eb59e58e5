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

adze_cuda_test(cuda/test_device_calls.c)
set_property(TEST cuda/test_device_calls PROPERTY ENVIRONMENT "ADZE_BACKEND_PATH=${CMAKE_BINARY_DIR}/lib")
