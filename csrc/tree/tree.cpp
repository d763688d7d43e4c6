#include "tree/tree.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>

#include "common/check.h"

namespace specbranch {
namespace {

void require_count(std::string_view what, int count) {
  if (count < 0) throw_unexpected(what, "an integer >= 0", std::to_string(count));
}

constexpr int kMaxGuesses = std::numeric_limits<std::uint8_t>::max();  // a draw's number is a byte

}  // namespace

Tree::Tree(std::int32_t root_token, Coupling coupling, std::vector<std::int32_t> ends,
           int remaining)
    : coupling_(coupling), ends_(std::move(ends)) {
  set_remaining(remaining);
  std::sort(ends_.begin(), ends_.end());
  plant(root_token);
}

int Tree::num_expanded() const {
  return static_cast<int>(std::ranges::count_if(columns_.slot, [](int slot) { return slot >= 0; }));
}

void Tree::set_remaining(int remaining) {
  require_count("remaining", remaining);
  remaining_ = remaining;
}

std::vector<int> Tree::children(int node) const {
  require_node("children", node);
  std::vector<int> ids(columns_.num_children[node]);
  std::iota(ids.begin(), ids.end(), columns_.first_child[node]);
  return ids;
}

std::vector<int> Tree::main_line(int top) const {
  require_node("main_line", top);
  std::vector<int> line;
  for (int node = top; node >= 0; node = columns_.first_child[node]) line.push_back(node);
  return line;
}

std::pair<std::vector<int>, std::vector<int>> Tree::draft_rows(std::span<const int> nodes) const {
  std::vector<int> tokens, slots;
  for (const int node : nodes) {
    require_node("draft_rows", node);
    const int parent = columns_.parent[node];
    tokens.push_back(columns_.token[node]);
    slots.push_back(parent < 0 ? -1 : columns_.slot[parent]);
  }
  return {std::move(tokens), std::move(slots)};
}

std::vector<int> Tree::path(int node) const {
  require_node("path", node);
  std::vector<int> nodes(columns_.depth[node]);
  for (auto place = nodes.rbegin(); place != nodes.rend(); ++place) {
    *place = node;
    node = columns_.parent[node];
  }
  return nodes;
}

bool Tree::expandable(int node) const {
  require_node("expandable", node);
  return is_expandable(node);
}

std::vector<int> Tree::frontier(int count) const {
  require_count("frontier: count", count);
  return best(count, [this](int node) { return is_expandable(node); });
}

std::vector<int> Tree::likeliest(int count) const {
  require_count("likeliest: count", count);
  return best(count, [this](int node) { return !columns_.terminal[node]; });
}

std::vector<int> Tree::growable(std::span<const int> nodes, int max_expanded) const {
  require_unexpanded("grow", nodes);
  return first_living(nodes, std::max(0, max_expanded - num_expanded()));
}

void Tree::expand(std::span<const int> nodes, const DraftRows& rows, int first_row,
                  const Reliability& reliability) {
  require_unexpanded("expand", nodes);
  for (const int node : nodes) {
    if (columns_.terminal[node]) throw_unexpected("expand", "no terminal node", describe(node));
  }
  require_count("expand: first_row", first_row);
  if (rows.k > kMaxGuesses) {
    throw_unexpected("expand: ids", "255 columns at most", std::to_string(rows.k));
  }
  const int num_nodes = static_cast<int>(nodes.size());
  if (first_row > rows.num_rows - num_nodes) {
    throw_unexpected("expand: first_row",
                     std::to_string(num_nodes) + " of " + std::to_string(rows.num_rows) + " rows",
                     std::to_string(first_row));
  }
  guesses_ = {};
  const int first_slot = num_expanded();
  for (int i = 0; i < num_nodes; ++i) {
    const int node = nodes[i], row = first_row + i;
    columns_.slot[node] = first_slot + i;
    // A row of logits that decides nothing has NaN here, and no guesses.
    columns_.max_prob[node] = std::min(std::fmax(double{rows.max_prob[row]}, 0.0), 1.0);
    columns_.first_chance[node] = columns_.max_prob[node];
    columns_.entropy[node] = std::fmax(double{rows.entropy[row]}, 0.0);
    hold(node, rows, row, reliability);
  }
}

void Tree::attach(std::span<const int> fans) {
  if (fans.size() != guesses_.nodes.size()) {
    throw_unexpected("fan", std::to_string(guesses_.nodes.size()) + " counts, one a node",
                     std::to_string(fans.size()));
  }
  for (const int fan : fans) require_count("fan", fan);
  std::vector<int> counts(fans.begin(), fans.end());
  std::size_t begin = 0, total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i] = std::min(counts[i], static_cast<int>(guesses_.ends[i] - begin));
    begin = guesses_.ends[i];
    total += counts[i];
  }
  int child = size();
  columns_.for_each([&](auto& column) { column.resize(child + total); });
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const int parent = guesses_.nodes[i];
    const std::size_t first_guess = i == 0 ? 0 : guesses_.ends[i - 1];
    columns_.num_children[parent] = counts[i];
    if (counts[i] > 0) columns_.first_child[parent] = child;
    for (int rank = 0; rank < counts[i]; ++rank)
      set_child(child++, parent, rank, first_guess + rank);
  }
  guesses_ = {};
}

void Tree::plant(std::int32_t token) {
  columns_.for_each([](auto& column) { column.assign(1, {}); });
  columns_.token[0] = token;
  columns_.parent[0] = columns_.slot[0] = columns_.row[0] = columns_.first_child[0] = -1;
  columns_.estimate[0] = columns_.prior[0] = 1;
  columns_.on_main_line[0] = 1;
}

void Tree::set_child(int node, int parent, int rank, std::size_t guess) {
  const std::int32_t token = guesses_.tokens[guess];
  const int depth = columns_.depth[parent] + 1;
  columns_.token[node] = token;
  columns_.parent[node] = parent;
  columns_.depth[node] = depth;
  columns_.slot[node] = columns_.row[node] = columns_.first_child[node] = -1;
  columns_.estimate[node] = columns_.estimate[parent] * guesses_.chances[guess];
  columns_.prior[node] = guesses_.priors[guess];
  columns_.draw[node] = coupling_ == Coupling::kRejection ? rank + 1 : 0;
  columns_.on_main_line[node] = columns_.on_main_line[parent] && rank == 0;
  columns_.terminal[node] =
      depth >= remaining_ || std::binary_search(ends_.begin(), ends_.end(), token);
}

void Tree::hold(int node, const DraftRows& rows, int row, const Reliability& reliability) {
  const std::int32_t* ids = rows.ids + std::ptrdiff_t{row} * rows.k;
  const float* estimates = rows.estimates + std::ptrdiff_t{row} * rows.k;
  const auto count = std::find_if(ids, ids + rows.k, [](auto id) { return id < 0; }) - ids;
  const std::size_t begin = guesses_.tokens.size();
  guesses_.nodes.push_back(node);
  guesses_.tokens.insert(guesses_.tokens.end(), ids, ids + count);
  guesses_.priors.insert(guesses_.priors.end(), estimates, estimates + count);
  guesses_.chances.resize(begin + count);
  guesses_.ends.push_back(begin + count);
  const std::span priors = std::span(guesses_.priors).subspan(begin);
  const std::span chances = std::span(guesses_.chances).subspan(begin);
  reliability.to_priors(priors);
  reliability.find_chances(priors, chances);
  // Under rejection the fan may not look at the draws, and this is what it looks at.
  if (coupling_ == Coupling::kGumbel && count > 0) columns_.first_chance[node] = chances[0];
}

template <class Eligible>
std::vector<int> Tree::best(int count, const Eligible& eligible) const {
  std::vector<int> nodes;
  for (int node = 0; node < size(); ++node) {
    if (eligible(node)) nodes.push_back(node);
  }
  const auto likelier = [&estimate = columns_.estimate](int a, int b) {
    return estimate[a] != estimate[b] ? estimate[a] > estimate[b] : a < b;
  };
  const auto end = nodes.begin() + std::min<std::ptrdiff_t>(count, nodes.size());
  if (end != nodes.end()) std::nth_element(nodes.begin(), end, nodes.end(), likelier);
  nodes.erase(end, nodes.end());
  std::sort(nodes.begin(), nodes.end(), likelier);
  return nodes;
}

std::vector<int> Tree::first_living(std::span<const int> nodes, int count) const {
  std::vector<int> living;
  for (const int node : nodes) {
    if (!columns_.terminal[node] && static_cast<int>(living.size()) < count) living.push_back(node);
  }
  return living;
}

void Tree::require_node(std::string_view what, int node) const {
  if (node >= 0 && node < size()) return;
  throw_unexpected(what, "ids of nodes, 0 to " + std::to_string(size() - 1), std::to_string(node));
}

void Tree::require_unexpanded(std::string_view what, std::span<const int> nodes) const {
  std::vector<bool> seen(size());
  for (const int node : nodes) {
    require_node(what, node);
    if (seen[node] || columns_.slot[node] >= 0) {
      throw_unexpected(what, "distinct nodes that are not expanded", describe(node));
    }
    seen[node] = true;
  }
}

std::string Tree::describe(int node) const {
  return "node " + std::to_string(node) + " (token " + std::to_string(columns_.token[node]) +
         " at depth " + std::to_string(columns_.depth[node]) + ")";
}

}  // namespace specbranch
