// What verification asks of the tree, and what it leaves of it.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

#include "common/check.h"
#include "tree/tree.h"

namespace specbranch {

const std::vector<int>& Tree::submit(std::span<const int> nodes, int max_rows) {
  for (const int node : nodes) require_node("submit", node);
  const std::vector<int> rows = first_living(nodes, max_rows);
  if (rows.empty() || rows[0] != 0) {
    throw_unexpected("submit", "the root as the first node",
                     rows.empty() ? "none" : describe(rows[0]));
  }
  std::vector<std::int32_t> row_of(size(), -1);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const int node = rows[row];
    if (row_of[node] >= 0 || (row > 0 && row_of[columns_.parent[node]] < 0)) {
      throw_unexpected("submit", "distinct nodes, each after its parent", describe(node));
    }
    row_of[node] = static_cast<std::int32_t>(row);
  }
  columns_.row = std::move(row_of);
  submitted_ = rows;
  return submitted_;
}

std::vector<int> Tree::question() const {
  std::vector<int> nodes = submitted_;
  for (const int parent : submitted_) {
    for (const int child : children(parent)) {
      if (columns_.row[child] < 0) nodes.push_back(child);
    }
  }
  return nodes;
}

std::pair<std::vector<int>, int> Tree::answer(Walk places) const {
  const std::vector<int> nodes = question();
  const auto id_of = [&](int place) {
    if (place < 0 || place >= static_cast<int>(nodes.size())) {
      throw_unexpected("answer", "places below " + std::to_string(nodes.size()),
                       std::to_string(place));
    }
    return nodes[place];
  };
  std::vector<int> path;
  for (const int place : places.path) path.push_back(id_of(place));
  const int winner = places.winner == -1 ? -1 : id_of(places.winner);
  require_walk("answer", {path, winner});
  return {path, winner};
}

void Tree::teach(Walk walk, Reliability& reliability) const {
  require_walk("teach", walk);
  for (std::size_t i = 0; i < walk.path.size(); ++i) {
    const int right = i + 1 < walk.path.size() ? walk.path[i + 1] : walk.winner;
    for (const int child : children(walk.path[i])) {
      const int rank = columns_.rank[child];
      if (rank >= 0) reliability.learn(rank, columns_.prior[child], child == right);
    }
  }
}

std::pair<std::vector<int>, int> Tree::keep(Walk walk) const {
  require_walk("keep", walk);
  std::vector<int> slots;
  for (const int node : walk.path) {
    if (columns_.slot[node] >= 0) slots.push_back(columns_.slot[node]);
  }
  const int path_slots = static_cast<int>(slots.size());
  for (const int node : expanded_by_slot(below(walk.winner))) slots.push_back(columns_.slot[node]);
  return {slots, path_slots};
}

Dropped Tree::reroot(Walk walk, std::int32_t token) {
  require_walk("reroot", walk);
  if (walk.winner >= 0 && columns_.token[walk.winner] != token) {
    throw_unexpected("reroot: token",
                     std::to_string(columns_.token[walk.winner]) + ", the winner's",
                     std::to_string(token));
  }
  const std::vector<int> survivors = below(walk.winner);
  const Dropped dropped = count_dropped(survivors, walk);
  if (survivors.empty()) {
    plant(token);
  } else {
    retain(survivors);
  }
  columns_.row.assign(size(), -1);
  submitted_.clear();
  guesses_ = {};
  return dropped;
}

std::vector<int> Tree::below(int winner) const {
  if (winner < 0) return {};
  std::vector<int> nodes = {winner};
  std::vector<bool> lives(size());
  lives[winner] = true;
  for (int node = winner + 1; node < size(); ++node) {
    if ((lives[node] = lives[columns_.parent[node]])) nodes.push_back(node);
  }
  return nodes;
}

std::vector<int> Tree::expanded_by_slot(std::vector<int> nodes) const {
  const auto& slot = columns_.slot;
  std::erase_if(nodes, [&](int node) { return slot[node] < 0; });
  std::sort(nodes.begin(), nodes.end(), [&](int a, int b) { return slot[a] < slot[b]; });
  return nodes;
}

Dropped Tree::count_dropped(const std::vector<int>& survivors, Walk walk) const {
  int main_line = 0;
  for (const auto on_main_line : columns_.on_main_line) main_line += on_main_line;
  Dropped dropped = {main_line, size() - main_line};
  const auto spare = [&](int node) {
    --(columns_.on_main_line[node] ? dropped.main_line : dropped.other);
  };
  std::for_each(survivors.begin(), survivors.end(), spare);
  std::for_each(walk.path.begin(), walk.path.end(), spare);
  return dropped;
}

void Tree::retain(const std::vector<int>& survivors) {
  std::vector<std::int32_t> new_id(size(), -1);
  for (std::size_t id = 0; id < survivors.size(); ++id) {
    new_id[survivors[id]] = static_cast<std::int32_t>(id);
  }
  columns_.for_each([&](auto& column) {
    for (std::size_t id = 0; id < survivors.size(); ++id) column[id] = column[survivors[id]];
    column.resize(survivors.size());
  });
  const int depth = columns_.depth[0];
  for (int node = 0; node < size(); ++node) {
    columns_.depth[node] -= depth;
    if (node > 0) columns_.parent[node] = new_id[columns_.parent[node]];
    for (auto* link : {&columns_.first_child[node], &columns_.next_sibling[node]}) {
      if (*link >= 0) *link = new_id[*link];
    }
  }
  columns_.parent[0] = columns_.next_sibling[0] = -1;
  columns_.estimate[0] = columns_.on_main_line[0] = 1;
  weigh();
  std::vector<int> all(size());
  std::iota(all.begin(), all.end(), 0);
  std::int32_t slot = 0;
  for (const int node : expanded_by_slot(std::move(all))) columns_.slot[node] = slot++;
}

void Tree::require_walk(std::string_view what, Walk walk) const {
  int at = -1;
  bool connected = !walk.path.empty();
  const auto go_to = [&](int node) {
    require_node(what, node);
    connected = connected && columns_.parent[node] == at;
    at = node;
  };
  std::for_each(walk.path.begin(), walk.path.end(), go_to);
  if (walk.winner != -1) go_to(walk.winner);
  if (connected) return;
  throw_unexpected(
      what, "a path down from the root and a child of its end",
      std::to_string(walk.path.size()) + " nodes and winner " + std::to_string(walk.winner));
}

}  // namespace specbranch
