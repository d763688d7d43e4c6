#include "draft.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace simt::ptx {
namespace {

const Meanings& meanings() {
  static const Meanings all = [] {
    Meanings made;
    for (const auto add : {add_integers, add_bits, add_floats, add_conversions, add_moves,
                           add_memory, add_collectives}) {
      add(made);
    }
    return made;
  }();
  return all;
}

/// Hints, and scopes of memory that are one here.
const std::set<std::string_view> kMeaningless = {"uni", "nc", "aligned", "gpu", "L2::128B"};

std::string name_of(std::string_view opcode) {
  std::string name;
  while (!opcode.empty()) {
    const std::size_t dot = std::min(opcode.find('.'), opcode.size());
    const std::string_view part = opcode.substr(0, dot);
    if (!kMeaningless.contains(part)) name += (name.empty() ? "" : ".") + std::string(part);
    opcode.remove_prefix(std::min(dot + 1, opcode.size()));
  }
  return name;
}

std::string_view inside(std::string_view brackets) {
  return brackets.substr(1, brackets.size() - 2);
}

class Drafter {
 public:
  Drafts take() { return std::move(drafts_); }

  void read(const Statement& statement) {
    const std::string_view text = statement.text;
    if (text == "{") {
      scopes_.emplace_back();
      ++num_scopes_;
    } else if (text == "}") {
      scopes_.pop_back();
    } else if (text.ends_with(':')) {
      drafts_.labels[text.substr(0, text.size() - 1)] = drafts_.all.size();
      ++block_;
    } else if (text.starts_with(".reg")) {
      declare(text);
    } else if (!text.starts_with(".pragma")) {
      drafts_.all.push_back(draft(statement));
      if (!drafts_.all.back().label.empty()) ++block_;
    }
  }

 private:
  /// Within braces a name is another register than outside.
  void declare(std::string_view text) {
    if (scopes_.empty()) return;
    const std::size_t names = text.find(' ', text.find('.', 1));
    for (const std::string_view name : split(text.substr(names))) {
      scopes_.back()[name] = std::string(name) + "#" + std::to_string(num_scopes_);
    }
  }

  std::string scoped(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return std::string(name);
  }

  Draft draft(const Statement& statement) const {
    Draft draft;
    draft.where = statement.where;
    draft.block = block_;
    const std::string_view text = take_guard(statement.text, draft);
    const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
    std::string name = name_of(text.substr(0, end));
    const std::vector<std::string_view> written = split(text.substr(end));
    if (name == "bra") {
      draft.label = written.at(0);
    } else {
      for (const std::string_view operand : written) add_operands(operand, draft.operands);
      adapt(name, written, draft.operands);
    }
    const auto meaning = meanings().find(name);
    if (meaning == meanings().end() ||
        static_cast<int>(draft.operands.size()) != meaning->second.num_operands) {
      throw std::runtime_error("PTX line " + std::to_string(statement.where.column) +
                               " is not known: " + std::string(statement.text));
    }
    draft.meaning = meaning->second;
    return draft;
  }

  std::string_view take_guard(std::string_view text, Draft& draft) const {
    if (text.front() != '@') return text;
    draft.negated = text[1] == '!';
    const std::size_t start = draft.negated ? 2 : 1;
    const std::size_t end = text.find_first_of(" \t");
    draft.guard = scoped(text.substr(start, end - start));
    return trim(text.substr(end));
  }

  void add_operands(std::string_view text, std::vector<std::string>& operands) const {
    const std::size_t bar = text.find('|');
    if (text.front() == '{') {
      for (const std::string_view part : split(inside(text))) add_operands(part, operands);
    } else if (text.front() == '[') {
      const std::string_view sum = inside(text);
      const std::size_t plus = sum.find('+');
      operands.push_back(scoped(trim(sum.substr(0, plus))));
      operands.emplace_back(plus == sum.npos ? "0" : trim(sum.substr(plus + 1)));
    } else if (bar != text.npos) {
      operands.push_back(scoped(text.substr(0, bar)));
      operands.push_back(scoped(text.substr(bar + 1)));
    } else {
      operands.push_back(scoped(text));
    }
  }

  /// What differs in its operands alone gets one form, or a name of its own.
  static void adapt(std::string& name, const std::vector<std::string_view>& written,
                    std::vector<std::string>& operands) {
    const auto parts = [&](int list) {
      return std::to_string(split(inside(written[list])).size());
    };
    if (name.starts_with("mov") && written.at(0).front() == '{') name += " to " + parts(0);
    if (name.starts_with("mov") && written.at(1).front() == '{') name += " of " + parts(1);
    if (name.starts_with("shfl") && written.at(0).find('|') == std::string_view::npos) {
      operands.insert(operands.begin() + 1, "_");
    }
    if (name.starts_with("red.")) {
      name.replace(0, 3, "atom");
      operands.insert(operands.begin(), "_");
    }
  }

  Drafts drafts_;
  std::vector<std::map<std::string_view, std::string>> scopes_;
  int num_scopes_ = 0;
  int block_ = 0;
};

}  // namespace

Drafts make_drafts(const Entry& entry) {
  Drafter drafter;
  for (const Statement& statement : entry.body) drafter.read(statement);
  return drafter.take();
}

}  // namespace simt::ptx
