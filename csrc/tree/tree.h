#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tree/reliability.h"

namespace specbranch {

/// What a tree knows of its nodes: a column holds a value for each, in order of their ids.
struct NodeColumns {
  std::vector<std::int32_t> token;
  std::vector<std::int32_t> parent;        // -1 of the root
  std::vector<std::int32_t> depth;         // edges from the root
  std::vector<std::int32_t> slot;          // in the draft's block, -1 while unexpanded
  std::vector<std::int32_t> row;           // among the submitted nodes, -1 if it is none of them
  std::vector<std::int32_t> first_child;   // -1 without
  std::vector<std::int32_t> next_sibling;  // -1 of the last one
  std::vector<std::int32_t> rank;    // among the draft's guesses at the parent, -1 of a matched one
  std::vector<double> drafted;       // chance given the parent as the draft says, -1 if it does not
  std::vector<double> matched;       // the same as the text's repetitions say, -1 if they do not
  std::vector<double> chance;        // the same as both say together
  std::vector<double> estimate;      // chance that decoding passes through here, given the root
  std::vector<double> prior;         // chance of this guess given its parent, before reliability
  std::vector<double> max_prob;      // of the draft's law here, once expanded
  std::vector<double> first_chance;  // that the first guess here is right
  std::vector<double> entropy;       // of the draft's law here, in nats, once expanded
  std::vector<std::uint8_t> draw;    // n for the n-th draw from the parent's law, 0 for no draw
  std::vector<std::uint8_t> on_main_line;  // the first child all the way from the root
  std::vector<std::uint8_t> terminal;      // ends the request if reached: never expanded

  template <class F>
  void for_each(const F& f) {
    f(token), f(parent), f(depth), f(slot), f(row), f(first_child), f(next_sibling), f(rank);
    f(drafted), f(matched), f(chance), f(estimate), f(prior);
    f(max_prob), f(first_chance), f(entropy);
    f(draw), f(on_main_line), f(terminal);
  }
};

/// What a draft step says of its R rows.
struct DraftRows {
  const std::int32_t* ids;  // [R, k] guesses, best (or first drawn) first, -1 pads
  const float* estimates;   // [R, k] chance that each is right, or probability of its draw
  const float* max_prob;    // [R]
  const float* entropy;     // [R]
  int num_rows;
  int k;
};

/// Where a verified walk led: the accepted nodes, the root first, and the child that ended it.
struct Walk {
  std::span<const int> path;
  int winner;  // -1 where no guess was right
};

/// What a re-rooting dropped, the walk's own path aside.
struct Dropped {
  int main_line = 0;
  int other = 0;
};

/// The speculation tree of one request: guessed continuations of the last committed token, its
/// root, re-rooted every round at the newest one.
///
/// Nodes are numbered in the order in which they joined, the root 0, parents before children.
/// An id holds until the next reroot, which closes the gaps. A node is expanded once the draft has
/// computed its law and its KV, which it can after the node's parent. Its children are the draft's
/// guesses, and matched ones, which need no draft: any node may have those.
///
/// Every function throws std::invalid_argument for ids that are no nodes and for what else does not
/// fit the tree, which then is as it was.
class Tree {
 public:
  /// ends: tokens that end the request.
  /// remaining: tokens that may still be committed; a guess at this depth ends the request too.
  explicit Tree(std::int32_t root_token, Coupling coupling = Coupling::kGumbel,
                std::vector<std::int32_t> ends = {}, int remaining = INT_MAX);

  int size() const { return static_cast<int>(columns_.token.size()); }
  const NodeColumns& columns() const { return columns_; }
  int remaining() const { return remaining_; }
  void set_remaining(int remaining);

  /// The slot that the next expanded node gets.
  int num_expanded() const;

  /// Rows that the target is working on, in their order; none while it is idle.
  const std::vector<int>& submitted() const { return submitted_; }

  /// Best first: in the draft's ranking, but likeliest first where some are matched; draws always
  /// in their order, before matched ones.
  std::vector<int> children(int node) const;
  /// `top` and the first children below it.
  std::vector<int> main_line(int top) const;
  /// The child that is the draft's own first guess, -1 without.
  int first_guess(int node) const;
  /// The nodes from below the root down to `node`.
  std::vector<int> path(int node) const;
  bool expandable(int node) const;
  /// Throws std::invalid_argument that names `what` if there is no such node.
  void require_node(std::string_view what, int node) const;
  /// Tokens of nodes that are about to take the next slots, and their parents' slots, -1 for the
  /// root.
  std::pair<std::vector<int>, std::vector<int>> draft_rows(std::span<const int> nodes) const;

  /// The `count` likeliest nodes that could be expanded, likeliest first; ties go by id.
  std::vector<int> frontier(int count) const;
  /// The `count` likeliest nodes that could be submitted, likeliest first: always a subtree at the
  /// root with parents first, for estimates never grow along a path.
  std::vector<int> likeliest(int count) const;

  /// The first of `nodes` that are not terminal, each behind its unexpanded ancestors, so many that
  /// max_expanded nodes are expanded with them; they must be distinct and unexpanded.
  std::vector<int> growable(std::span<const int> nodes, int max_expanded) const;
  /// Note what rows first_row, first_row + 1, ... of a draft step say of `nodes`, which take the
  /// next slots. The guesses wait for attach.
  void expand(std::span<const int> nodes, const DraftRows& rows, int first_row,
              const Reliability& reliability);
  /// The first fans[i] guesses of the i-th node of the last expand become its children. One that
  /// is a matched child already is the draft's guess from now on, and keeps what is below it.
  void attach(std::span<const int> fans);
  /// Deterministic guesses and their chances become matched children of a node that is not
  /// terminal, but those that are its children already. Returns the children that carry them.
  ///
  /// Of a token that both guess the log-odds of its chances are averaged; a matched guess that the
  /// draft does not have among its own gets its share of what these leave.
  std::vector<int> match(int node, std::span<const std::int32_t> tokens,
                         std::span<const double> chances);

  /// Take as rows the first max_rows of `nodes` that are not terminal: a subtree at the root,
  /// parents first.
  const std::vector<int>& submit(std::span<const int> nodes, int max_rows);
  /// The nodes that verification asks about: the submitted ones, then their other children by
  /// parent's row and rank.
  std::vector<int> question() const;
  /// The walk whose nodes are given by their places in the question.
  std::pair<std::vector<int>, int> answer(Walk places) const;
  /// Teach how the guesses at the nodes of the path turned out; every one of them was tested.
  void teach(Walk walk, Reliability& reliability) const;

  /// Slots that the draft keeps, strictly increasing: of the path, then of what lives on below the
  /// winner; and how many of them are the path's.
  std::pair<std::vector<int>, int> keep(Walk walk) const;
  /// Make the winner the root, or a fresh node for `token` if no guess won.
  ///
  /// What is below the winner lives on, with depths and estimates relative to it and slots from 0
  /// on in their old order.
  Dropped reroot(Walk walk, std::int32_t token);

 private:
  void plant(std::int32_t token);
  void hold(int node, const DraftRows& rows, int row, const Reliability& reliability);
  int child_of(int parent, std::int32_t token);
  void weigh_children(int parent);
  void weigh();
  bool is_expandable(int node) const { return columns_.slot[node] < 0 && !columns_.terminal[node]; }
  template <class Eligible>
  std::vector<int> best(int count, const Eligible& eligible) const;
  std::vector<int> first_living(std::span<const int> nodes, int count) const;

  std::vector<int> below(int winner) const;
  std::vector<int> expanded_by_slot(std::vector<int> nodes) const;
  Dropped count_dropped(const std::vector<int>& survivors, Walk walk) const;
  void retain(const std::vector<int>& survivors);

  void require_unexpanded(std::string_view what, std::span<const int> nodes) const;
  void require_walk(std::string_view what, Walk walk) const;
  std::string describe(int node) const;

  /// What the last expand left for attach.
  struct Guesses {
    std::vector<int> nodes;
    std::vector<std::size_t> ends;  // of each node's guesses in the vectors below
    std::vector<std::int32_t> tokens;
    std::vector<double> priors, chances;
  };

  Coupling coupling_;
  std::vector<std::int32_t> ends_;  // ascending
  int remaining_;
  NodeColumns columns_;
  std::vector<int> submitted_;
  Guesses guesses_;
};

}  // namespace specbranch
