# The lines of cuda/ that all tests on the emulator together have run: after them.
find_program(ADZE_GCOV gcov)
get_property(tests DIRECTORY PROPERTY TESTS)
list(FILTER tests INCLUDE REGEX "^cuda/")
if(ADZE_GCOV AND TARGET adze_cusim_kernels)
  add_test(NAME cusim/coverage COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cusim/coverage.sh ${CMAKE_SOURCE_DIR}
           ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/adze_cusim_kernels.dir ${ADZE_GCOV})
  set_tests_properties(cusim/coverage PROPERTIES DEPENDS "${tests}" SKIP_RETURN_CODE 77 TIMEOUT 120)
else()
  message(WARNING "cusim/coverage is NOT tested: there is no gcov beside this compiler")
endif()
