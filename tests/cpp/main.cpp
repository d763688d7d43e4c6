#include <cstdio>

#include "test.h"

namespace specbranch::test {
namespace {

int num_failed_checks = 0;

int run_suite(const std::string& suite) {
  int num_run = 0;
  for (const Test& test : all_tests()) {
    if (test.suite != suite) continue;
    std::printf("%s.%s\n", test.suite.c_str(), test.name.c_str());
    test.body();
    ++num_run;
  }
  return num_run;
}

}  // namespace

std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

void fail(const char* file, int line, const char* condition) {
  std::printf("%s:%d: CHECK(%s) failed\n", file, line, condition);
  ++num_failed_checks;
}

}  // namespace specbranch::test

int main(int argc, char** argv) {
  bool all_found = argc > 1;
  for (int i = 1; i < argc; ++i) all_found &= specbranch::test::run_suite(argv[i]) > 0;
  return all_found && specbranch::test::num_failed_checks == 0 ? 0 : 1;
}
