#include "reader.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <regex>
#include <set>
#include <stdexcept>
#include <unordered_map>

namespace simt::ptx {
namespace {

using Match = std::match_results<std::string_view::const_iterator>;

bool matches(std::string_view text, Match& match, const std::regex& pattern) {
  return std::regex_search(text.begin(), text.end(), match, pattern);
}

unsigned number(std::string_view text) {
  unsigned value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

bool in_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}

/// Names live as long as the process, as locations point to them.
const char* lasting(std::string text) {
  static std::set<std::string> all;
  return all.insert(std::move(text)).first->c_str();
}

std::unordered_map<unsigned, const char*> source_files(std::string_view module) {
  std::unordered_map<unsigned, const char*> files;
  for (std::size_t at = 0; (at = module.find("\n.file", at)) != module.npos; ++at) {
    const std::string_view line = module.substr(at, module.find('\n', at + 1) - at);
    const std::size_t quote = line.find('"');
    files[number(trim(line.substr(6, quote - 6)))] =
        lasting(std::string(line.substr(quote + 1, line.rfind('"') - quote - 1)));
  }
  return files;
}

/// Primitives stand for the place that uses them, as do the toolkit's functions.
bool is_primitive(std::string_view file) {
  return file.ends_with("prims.cuh") || file.ends_with(".hpp");
}

/// Walks over the statements of a module from some place on.
class Statements {
 public:
  Statements(std::string_view module, std::size_t at)
      : module_(module), at_(at), files_(source_files(module)) {
    line_ = 1 + static_cast<unsigned>(std::count(module.begin(), module.begin() + at, '\n'));
  }

  std::optional<Statement> next() {
    for (;;) {
      skip_blank();
      if (at_ >= module_.size()) return std::nullopt;
      if (!module_.substr(at_).starts_with(".loc")) return statement();
      note_location(take(module_.find('\n', at_)));
    }
  }

 private:
  void skip_blank() {
    for (; at_ < module_.size(); step()) {
      if (module_.substr(at_, 2) == "//") take(module_.find('\n', at_));
      if (!is_space(module_[at_])) return;
    }
  }

  void step() { line_ += module_[at_++] == '\n'; }

  std::string_view take(std::size_t end) {
    const std::size_t start = at_;
    while (at_ < std::min(end, module_.size())) step();
    return module_.substr(start, at_ - start);
  }

  Statement statement() {
    const Location where(file_, source_line_, line_);
    if (module_[at_] == '{' || module_[at_] == '}') return {take(at_ + 1), where};
    std::size_t end = at_;
    while (in_name(module_[end])) ++end;
    if (module_[end] == ':') return {take(end + 1), where};
    const std::string_view text = take(module_.find(';', at_));
    step();
    return {text, where};
  }

  void note_location(std::string_view text) {
    Match match;
    static const std::regex pattern(R"(\.loc\s+(\d+) (\d+)(?:.*inlined_at (\d+) (\d+))?)");
    if (!matches(text, match, pattern)) return;
    file_ = files_[number(match[1].str())];
    source_line_ = number(match[2].str());
    if (!match[3].matched || !is_primitive(file_)) return;
    file_ = files_[number(match[3].str())];
    source_line_ = number(match[4].str());
  }

  std::string_view module_;
  std::size_t at_;
  unsigned line_;
  std::unordered_map<unsigned, const char*> files_;
  const char* file_ = "";
  unsigned source_line_ = 0;
};

std::size_t bytes_of(std::string_view type) {
  const std::size_t digit = type.find_first_of("0123456789");
  return number(type.substr(digit)) / 8;
}

/// ".align 8 .b8 name[192]", with or without its first and its last part.
std::optional<Variable> variable(std::string_view text, std::size_t& align) {
  static const std::regex pattern(
      R"((?:\.align\s+(\d+)\s+)?\.([bsuf]\d+)\s+(?:\.ptr.*\s)?([\w$]+)(\[(\d*)\])?)");
  Match match;
  if (!matches(text, match, pattern)) return std::nullopt;
  const std::size_t unit = bytes_of(match[2].str());
  align = match[1].matched ? number(match[1].str()) : unit;
  return Variable{match[3].str(), match[4].matched ? unit * number(match[5].str()) : unit};
}

void read_parameters(std::string_view list, Entry& entry) {
  for (const std::string_view text : split(list)) {
    std::size_t align = 1;
    std::optional<Variable> parameter = variable(text, align);
    if (!parameter) continue;
    parameter->offset = (entry.parameter_bytes + align - 1) / align * align;
    entry.parameter_bytes = parameter->offset + parameter->bytes;
    entry.parameters.push_back(*parameter);
  }
}

void read_shared(std::string_view text, Entry& entry) {
  std::size_t align = 1;
  if (const auto found = variable(text, align)) entry.shared.push_back(*found);
}

void read_shared_of_module(std::string_view module, Entry& entry) {
  for (const std::string_view start : {"\n.shared", "\n.extern .shared"}) {
    for (std::size_t at = 0; (at = module.find(start, at)) != module.npos; ++at) {
      read_shared(module.substr(at, module.find(';', at) - at), entry);
    }
  }
}

void read_max_threads(std::string_view attributes, Entry& entry) {
  static const std::regex pattern(R"(\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?)");
  Match match;
  if (!matches(attributes, match, pattern)) return;
  entry.max_threads = 1;
  for (int i = 1; i <= 3; ++i) {
    if (match[i].matched) entry.max_threads *= number(match[i].str());
  }
}

void read_body(Statements statements, Entry& entry) {
  int depth = 0;
  while (const auto statement = statements.next()) {
    depth += statement->text == "{";
    depth -= statement->text == "}";
    if (depth == 0) return;
    if (statement->text.starts_with(".shared")) {
      read_shared(statement->text, entry);
    } else {
      entry.body.push_back(*statement);
    }
  }
  throw std::runtime_error("PTX of " + entry.name + " has no end");
}

}  // namespace

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view operands) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t at = 0; at <= operands.size(); ++at) {
    const char c = at < operands.size() ? operands[at] : ',';
    depth += c == '{' || c == '[';
    depth -= c == '}' || c == ']';
    if (c != ',' || depth > 0) continue;
    const std::string_view part = trim(operands.substr(start, at - start));
    if (!part.empty()) parts.push_back(part);
    start = at + 1;
  }
  return parts;
}

Entry read_entry(std::string_view module, std::string_view name) {
  const std::size_t at = module.find(".entry " + std::string(name) + "(");
  if (at == module.npos) throw std::runtime_error("no PTX of " + std::string(name));
  const std::size_t list = module.find('(', at);
  const std::size_t end = module.find(')', list);
  const std::size_t body = module.find('{', end);
  Entry entry;
  entry.name = name;
  read_parameters(module.substr(list + 1, end - list - 1), entry);
  read_max_threads(module.substr(end, body - end), entry);
  read_shared_of_module(module, entry);
  read_body(Statements(module, body), entry);
  return entry;
}

}  // namespace simt::ptx
