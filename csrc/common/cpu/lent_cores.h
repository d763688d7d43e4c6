#pragma once

#include <span>
#include <vector>

namespace specbranch {

/// Cores of others that the calling thread may use too while it is the only one at work. None by
/// default.
void lend_cores(std::vector<int> cores);

/// Those that the calling thread may use now: all that it was lent, or none if another is at work.
std::span<const int> lent_cores();

/// While it lives its thread is at work, for the other threads of this process.
class AtWork {
 public:
  AtWork();
  ~AtWork();
  AtWork(const AtWork&) = delete;
  AtWork& operator=(const AtWork&) = delete;
};

}  // namespace specbranch
