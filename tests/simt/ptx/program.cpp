#include "program.hpp"

#include <charconv>
#include <map>
#include <stdexcept>

#include "draft.hpp"
#include "machine.hpp"
#include "slots.hpp"

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

namespace simt::ptx {
namespace {

using Value = std::uint64_t (*)(const Variable&);

template <auto* kTriple, auto kMember>
std::uint64_t member(const Variable& /*none*/) {
  return (*kTriple).*kMember;
}

const std::map<std::string_view, Value> kSpecials = {
    {"%tid.x", member<&threadIdx, &uint3::x>},
    {"%tid.y", member<&threadIdx, &uint3::y>},
    {"%tid.z", member<&threadIdx, &uint3::z>},
    {"%ctaid.x", member<&blockIdx, &uint3::x>},
    {"%ctaid.y", member<&blockIdx, &uint3::y>},
    {"%ctaid.z", member<&blockIdx, &uint3::z>},
    {"%ntid.x", member<&blockDim, &dim3::x>},
    {"%ntid.y", member<&blockDim, &dim3::y>},
    {"%ntid.z", member<&blockDim, &dim3::z>},
    {"%nctaid.x", member<&gridDim, &dim3::x>},
    {"%nctaid.y", member<&gridDim, &dim3::y>},
    {"%nctaid.z", member<&gridDim, &dim3::z>},
    {"%laneid", [](const Variable&) -> std::uint64_t { return running.thread->lane; }},
};

std::uint64_t address_of_parameter(const Variable& parameter) {
  return reinterpret_cast<std::uintptr_t>(parameters.data + parameter.offset);
}

std::uint64_t address_of_shared(const Variable& variable) {
  void* memory =
      variable.bytes == 0 ? dynamic_shared() : shared_variable(&variable, variable.bytes);
  return reinterpret_cast<std::uintptr_t>(memory);
}

template <class T>
std::uint64_t parse(std::string_view digits, int base) {
  T value{};
  const char* end = digits.data() + digits.size();
  const auto [parsed, error] = std::from_chars(digits.data(), end, value, base);
  if (error != std::errc{} || parsed != end) {
    throw std::runtime_error("PTX has the unknown operand " + std::string(digits));
  }
  return static_cast<std::uint64_t>(value);
}

/// 12, -1, 0x1F, 0f3F800000, 0d3FF0000000000000
std::uint64_t constant(std::string_view text) {
  if (text.ends_with('U')) text.remove_suffix(1);
  const bool is_hex =
      text.size() > 2 && text[0] == '0' && std::string_view("xfFdD").find(text[1]) != text.npos;
  if (is_hex) return parse<std::uint64_t>(text.substr(2), 16);
  return text.starts_with('-') ? parse<std::int64_t>(text, 10) : parse<std::uint64_t>(text, 10);
}

bool is_constant(std::string_view text) {
  return text.front() == '-' || (text.front() >= '0' && text.front() <= '9');
}

/// %r12, a name of an inner scope, or what nobody reads.
bool is_register(std::string_view text) {
  return (text.back() >= '0' && text.back() <= '9') || text.find('#') != text.npos || text == "_";
}

class Builder {
 public:
  explicit Builder(const Entry& entry)
      : entry_(entry), drafts_(make_drafts(entry)), slots_(drafts_.all) {}

  std::unique_ptr<const Program> build() {
    program_->code.resize(drafts_.all.size() + 1);
    for (std::size_t n = 0; n < drafts_.all.size(); ++n) {
      encode(drafts_.all[n], program_->code[n]);
      slots_.end_instruction(n);
    }
    program_->slots = slots_.initial();
    program_->parameters = entry_.parameters;
    program_->parameter_bytes = entry_.parameter_bytes;
    program_->max_threads = entry_.max_threads;
    return std::move(program_);
  }

 private:
  void encode(const Draft& draft, Instruction& instruction) {
    instruction = {draft.meaning.run, 0, draft.negated, {}, nullptr, draft.where};
    instruction.guard = draft.guard.empty() ? slots_.of_constant(1) : slot(draft.guard);
    for (std::size_t k = 0; k < draft.operands.size(); ++k) {
      instruction.slots[k] = slot(draft.operands[k]);
    }
    if (!draft.label.empty()) instruction.target = &program_->code[drafts_.labels.at(draft.label)];
  }

  std::uint32_t slot(const std::string& operand) {
    if (is_constant(operand)) return slots_.of_constant(constant(operand));
    if (const auto special = kSpecials.find(operand); special != kSpecials.end()) {
      return given(operand, special->second, {});
    }
    for (const Variable& parameter : entry_.parameters) {
      if (parameter.name == operand) return given(operand, address_of_parameter, parameter);
    }
    for (const Variable& variable : entry_.shared) {
      if (variable.name == operand) return given(operand, address_of_shared, variable);
    }
    if (!is_register(operand)) throw std::runtime_error("PTX has the unknown operand " + operand);
    return slots_.of_register(operand);
  }

  std::uint32_t given(const std::string& name, Value value, const Variable& of) {
    const auto [found, is_new] = given_.try_emplace(name);
    if (is_new) {
      found->second = slots_.add(0);
      program_->given.push_back({found->second, value, of});
    }
    return found->second;
  }

  const Entry& entry_;
  Drafts drafts_;
  Slots slots_;
  std::map<std::string, std::uint32_t> given_;
  std::unique_ptr<Program> program_ = std::make_unique<Program>();
};

/// Of each thread of the device, kept from launch to launch.
std::vector<std::uint64_t>& slots_of(const Thread* thread) {
  static std::unordered_map<const Thread*, std::vector<std::uint64_t>> all;
  return all[thread];
}

}  // namespace

void Program::run() const {
  std::vector<std::uint64_t>& values = slots_of(running.thread);
  values = slots;
  for (const Given& given : this->given) values[given.slot] = given.value(given.of);
  Frame frame{values.data(), code.data()};
  while (frame.next != nullptr) {
    const Instruction& i = *frame.next++;
    if ((values[i.guard] != 0) != i.negated) i.run(frame, i);
  }
}

std::unique_ptr<const Program> make_program(std::string_view module, std::string_view name) {
  const Entry entry = read_entry(module, name);
  return Builder(entry).build();
}

}  // namespace simt::ptx
