#include "forward/linear.h"

#include "common/check.h"

namespace specbranch {
namespace {

std::int64_t total_out_features(const std::vector<std::shared_ptr<const Linear>>& parts) {
  if (parts.empty()) throw_unexpected("parts", "at least one", "none");
  std::int64_t total = 0;
  for (const auto& part : parts) {
    if (part->in_features() != parts[0]->in_features() || part->dtype() != parts[0]->dtype()) {
      throw_unexpected("parts", "one dtype and number of inputs", "several");
    }
    total += part->out_features();
  }
  return total;
}

}  // namespace

SideBySide::SideBySide(std::vector<std::shared_ptr<const Linear>> parts)
    : Linear(parts.empty() ? DType{} : parts[0]->dtype(),
             parts.empty() ? 0 : parts[0]->in_features(), total_out_features(parts)),
      parts_(std::move(parts)) {}

void SideBySide::multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const {
  char* column = static_cast<char*>(out.data);
  for (const auto& part : parts_) {
    part->multiply(x, num_rows, {column, out.stride});
    column += part->out_features() * size_of(dtype());
  }
}

}  // namespace specbranch
