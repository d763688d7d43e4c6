#include "tree/tree.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>

#include "common/check.h"

namespace specbranch {
namespace {

void require_count(std::string_view what, int count) {
  if (count < 0) throw_unexpected(what, "an integer >= 0", std::to_string(count));
}

/// The chance of a guess that two say: its log-odds are the mean of both.
double together(double a, double b) {
  const auto odds = [](double chance) {
    chance = std::clamp(chance, 1e-6, 1 - 1e-6);
    return chance / (1 - chance);
  };
  const double pooled = std::sqrt(odds(a) * odds(b));
  return pooled / (1 + pooled);
}

constexpr double kLeastLeft = 1e-9;                                    // less than that is rounding
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
  std::vector<int> ids;
  for (int child = columns_.first_child[node]; child >= 0; child = columns_.next_sibling[child]) {
    ids.push_back(child);
  }
  return ids;
}

int Tree::first_guess(int node) const {
  for (const int child : children(node)) {
    if (columns_.rank[child] == 0) return child;
  }
  return -1;
}

std::vector<int> Tree::main_line(int top) const {
  require_node("main_line", top);
  std::vector<int> line;
  for (int node = top; node >= 0; node = columns_.first_child[node]) line.push_back(node);
  return line;
}

std::pair<std::vector<int>, std::vector<int>> Tree::draft_rows(std::span<const int> nodes) const {
  std::vector<int> tokens, slots;
  std::vector<std::int32_t> slot_of = columns_.slot;
  std::int32_t slot = num_expanded();
  for (const int node : nodes) {
    require_node("draft_rows", node);
    const int parent = columns_.parent[node];
    tokens.push_back(columns_.token[node]);
    slots.push_back(parent < 0 ? -1 : slot_of[parent]);
    slot_of[node] = slot++;
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
  std::vector<int> closed;
  std::vector<bool> seen(size());
  for (int node : nodes) {
    if (columns_.terminal[node]) continue;
    std::vector<int> line;
    for (; node >= 0 && columns_.slot[node] < 0 && !seen[node]; node = columns_.parent[node]) {
      seen[node] = true;
      line.push_back(node);
    }
    closed.insert(closed.end(), line.rbegin(), line.rend());
  }
  const int room = std::max(0, max_expanded - num_expanded());
  closed.resize(std::min(closed.size(), static_cast<std::size_t>(room)));
  return closed;
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
  for (int i = 0; i < num_nodes; ++i) {
    const int parent = columns_.parent[nodes[i]];
    const auto before = nodes.first(i);
    if (parent >= 0 && columns_.slot[parent] < 0 &&
        std::find(before.begin(), before.end(), parent) == before.end()) {
      throw_unexpected("expand", "nodes behind their parents", describe(nodes[i]));
    }
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
  std::size_t begin = 0;
  for (std::size_t i = 0; i < fans.size(); ++i) {
    const int parent = guesses_.nodes[i];
    const int count = std::min(fans[i], static_cast<int>(guesses_.ends[i] - begin));
    for (int rank = 0; rank < count; ++rank) {
      const int child = child_of(parent, guesses_.tokens[begin + rank]);
      columns_.rank[child] = rank;
      columns_.draw[child] = coupling_ == Coupling::kRejection ? rank + 1 : 0;
      columns_.prior[child] = guesses_.priors[begin + rank];
      columns_.drafted[child] = guesses_.chances[begin + rank];
    }
    weigh_children(parent);
    begin = guesses_.ends[i];
  }
  guesses_ = {};
  weigh();
}

std::vector<int> Tree::match(int node, std::span<const std::int32_t> tokens,
                             std::span<const double> chances) {
  require_node("match", node);
  if (columns_.terminal[node]) throw_unexpected("match", "no terminal node", describe(node));
  if (tokens.size() != chances.size()) {
    throw_unexpected("match: chances", std::to_string(tokens.size()) + ", one a token",
                     std::to_string(chances.size()));
  }
  std::vector<int> matches;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    matches.push_back(child_of(node, tokens[i]));
    columns_.matched[matches.back()] = std::min(std::fmax(chances[i], 0.0), 1.0);
  }
  weigh_children(node);
  weigh();
  return matches;
}

void Tree::plant(std::int32_t token) {
  columns_.for_each([](auto& column) { column.assign(1, {}); });
  columns_.token[0] = token;
  columns_.parent[0] = columns_.slot[0] = columns_.row[0] = columns_.rank[0] = -1;
  columns_.first_child[0] = columns_.next_sibling[0] = -1;
  columns_.drafted[0] = columns_.matched[0] = -1;
  columns_.estimate[0] = columns_.chance[0] = columns_.prior[0] = 1;
  columns_.on_main_line[0] = 1;
}

int Tree::child_of(int parent, std::int32_t token) {
  std::int32_t* link = &columns_.first_child[parent];
  for (; *link >= 0; link = &columns_.next_sibling[*link]) {
    if (columns_.token[*link] == token) return *link;
  }
  const int child = *link = size();
  columns_.for_each([&](auto& column) { column.resize(child + 1); });
  columns_.token[child] = token;
  columns_.parent[child] = parent;
  columns_.depth[child] = columns_.depth[parent] + 1;
  columns_.slot[child] = columns_.row[child] = columns_.rank[child] = -1;
  columns_.first_child[child] = columns_.next_sibling[child] = -1;
  columns_.drafted[child] = columns_.matched[child] = -1;
  columns_.terminal[child] =
      columns_.depth[child] >= remaining_ || std::binary_search(ends_.begin(), ends_.end(), token);
  return child;
}

void Tree::weigh_children(int parent) {
  std::vector<int> siblings = children(parent);
  const auto& [rank, drafted, matched] =
      std::tie(columns_.rank, columns_.drafted, columns_.matched);
  auto& chance = columns_.chance;
  double all_drafted = 0, total = 0;
  for (const int child : siblings) all_drafted += std::max(drafted[child], 0.0);
  const double left = std::max(1 - all_drafted, kLeastLeft);
  bool some_matched = false;
  for (const int child : siblings) {
    some_matched = some_matched || matched[child] >= 0;
    chance[child] = matched[child] < 0   ? drafted[child]
                    : drafted[child] < 0 ? left * matched[child]
                                         : together(drafted[child], matched[child]);
    total += chance[child];
  }
  if (!some_matched) return;
  for (const int child : siblings) chance[child] /= std::max(total, 1.0);
  std::ranges::stable_sort(siblings, [&](int a, int b) {
    const bool draws = columns_.draw[a] > 0 || columns_.draw[b] > 0;
    if (!draws) return chance[a] > chance[b];
    return rank[a] >= 0 && (rank[b] < 0 || rank[a] < rank[b]);
  });
  columns_.first_child[parent] = siblings.front();
  for (std::size_t i = 0; i < siblings.size(); ++i) {
    columns_.next_sibling[siblings[i]] = i + 1 < siblings.size() ? siblings[i + 1] : -1;
  }
  if (coupling_ == Coupling::kGumbel || columns_.slot[parent] < 0) {
    columns_.first_chance[parent] = chance[siblings.front()];
  }
}

void Tree::weigh() {
  for (int node = 1; node < size(); ++node) {
    const int parent = columns_.parent[node];
    columns_.estimate[node] = columns_.estimate[parent] * columns_.chance[node];
    columns_.on_main_line[node] =
        columns_.on_main_line[parent] && columns_.first_child[parent] == node;
  }
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
