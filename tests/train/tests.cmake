# tests of train/
add_test(NAME train/test_adze COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/train/test_adze.sh $<TARGET_FILE:adze>)
adze_test(train/test_optimizer.c)
adze_test(train/test_schedule.c)
adze_test(train/test_event_file.c)
adze_test(train/test_train_log.c)
adze_test(train/test_train_state.c)
