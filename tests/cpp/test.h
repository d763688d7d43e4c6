#pragma once

#include <string>
#include <utility>
#include <vector>

// A very small test framework: TEST(suite, name) { CHECK(condition); }. The program runs the suites
// named as its arguments and fails where a check did, or where a suite has no test.

namespace specbranch::test {

struct Test {
  std::string suite;
  std::string name;
  void (*body)();
};

std::vector<Test>& all_tests();
void fail(const char* file, int line, const char* condition);

struct Registration {
  Registration(const char* suite, const char* name, void (*body)()) {
    all_tests().push_back({suite, name, body});
  }
};

}  // namespace specbranch::test

#define TEST(suite, name)                                                                     \
  static void suite##_##name();                                                               \
  static const specbranch::test::Registration suite##_##name##_registration(#suite, #name,    \
                                                                            &suite##_##name); \
  static void suite##_##name()

#define CHECK(condition) \
  ((condition) ? (void)0 : specbranch::test::fail(__FILE__, __LINE__, #condition))
