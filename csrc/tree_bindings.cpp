// The speculation tree for Python: node ids in lists, columns and draft rows as numpy arrays.
#include "tree_bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/check.h"
#include "tree/tree.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace specbranch {
namespace {

using Ids = std::vector<int>;

Coupling coupling_of(const std::string& name) {
  if (name == "gumbel") return Coupling::kGumbel;
  if (name == "rejection") return Coupling::kRejection;
  throw_unexpected("coupling", "gumbel or rejection", name);
}

/// The integers of a policy's answer, which may be anything.
Ids integers(std::string_view what, const py::object& answer) {
  const auto refuse = [&] {
    throw_unexpected(what, "a sequence of integers", py::repr(answer).cast<std::string>());
  };
  if (!py::isinstance<py::iterable>(answer)) refuse();
  Ids values;
  for (const py::handle value : answer) {
    try {
      values.push_back(value.cast<int>());
    } catch (const py::cast_error&) {
      refuse();
    }
  }
  return values;
}

template <class T>
py::array_t<T> copy_of(const std::vector<T>& column) {
  return py::array_t<T>(static_cast<py::ssize_t>(column.size()), column.data());
}

template <auto kColumn>
auto column(const Tree& tree) {
  return copy_of(tree.columns().*kColumn);
}

template <auto kColumn>
py::array_t<bool> flags(const Tree& tree) {
  const std::vector<std::uint8_t>& values = tree.columns().*kColumn;
  py::array_t<bool> array(static_cast<py::ssize_t>(values.size()));
  std::copy(values.begin(), values.end(), array.mutable_data());
  return array;
}

/// The values of some nodes.
template <auto kColumn>
auto values(const Tree& tree, const Ids& nodes) {
  const auto& column = tree.columns().*kColumn;
  std::remove_cvref_t<decltype(column)> found(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    tree.require_node("nodes", nodes[i]);
    found[i] = column[nodes[i]];
  }
  return found;
}

std::string text_of(const py::handle& value) { return py::str(value).cast<std::string>(); }

/// `array` as values of type T in C order; throws unless it is that and of this shape.
template <class T>
const T* values_of(std::string_view what, const py::array& array, const std::vector<int>& shape) {
  const bool holds =
      py::isinstance<py::array_t<T, py::array::c_style>>(array) &&
      std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim());
  if (!holds) {
    throw_unexpected(what,
                     "contiguous " + text_of(py::dtype::of<T>()) + " " + text_of(py::cast(shape)),
                     text_of(array.dtype()) + " " + text_of(py::list(array.attr("shape"))));
  }
  return static_cast<const T*>(array.data());
}

template <class T>
T* writable(std::string_view what, py::array& array, const std::vector<int>& shape) {
  values_of<T>(what, array, shape);
  if (!array.writeable()) throw_unexpected(what, "a writable array", "a read-only one");
  return static_cast<T*>(array.mutable_data());
}

std::vector<int> shape_of(std::string_view what, const py::array& array, int ndim) {
  if (array.ndim() != ndim) {
    throw_unexpected(what, std::to_string(ndim) + " dimensions", std::to_string(array.ndim()));
  }
  return {array.shape(), array.shape() + ndim};
}

void expand(Tree& tree, const Ids& nodes, const py::array& ids, const py::array& estimates,
            const py::array& max_prob, const py::array& entropy, int first_row,
            const Reliability& reliability) {
  const std::vector<int> shape = shape_of("expand: ids", ids, 2), rows = {shape[0]};
  tree.expand(nodes,
              {values_of<std::int32_t>("expand: ids", ids, shape),
               values_of<float>("expand: estimates", estimates, shape),
               values_of<float>("expand: max_prob", max_prob, rows),
               values_of<float>("expand: entropy", entropy, rows), shape[0], shape[1]},
              first_row, reliability);
}

void write_questions(const std::vector<std::reference_wrapper<Tree>>& trees, py::array candidates,
                     py::array parents, py::array n_nodes, py::array draw) {
  const std::vector<int> shape = shape_of("candidates", candidates, 2);
  const auto batch = static_cast<std::size_t>(shape[0]);
  const auto width = static_cast<std::size_t>(shape[1]);
  auto* const candidate = writable<std::int32_t>("candidates", candidates, shape);
  auto* const parent = writable<std::int32_t>("parents", parents, shape);
  auto* const count = writable<std::int32_t>("n_nodes", n_nodes, {shape[0]});
  auto* const drawn = writable<std::uint8_t>("draw", draw, shape);
  if (trees.size() > batch) {
    throw_unexpected("trees", std::to_string(batch) + " at most", std::to_string(trees.size()));
  }
  std::fill(count, count + batch, 0);
  for (std::size_t b = 0; b < trees.size(); ++b) {
    const Ids nodes = trees[b].get().question();
    if (nodes.size() > width) {
      throw_unexpected("candidates", std::to_string(nodes.size()) + " columns or more",
                       std::to_string(width));
    }
    const NodeColumns& columns = trees[b].get().columns();
    std::size_t at = b * width;
    for (const int node : nodes) {
      candidate[at] = columns.token[node];
      parent[at] = node == 0 ? -1 : columns.row[columns.parent[node]];
      drawn[at++] = columns.draw[node];
    }
    count[b] = static_cast<std::int32_t>(nodes.size());
  }
}

std::vector<double> priors(const Reliability& reliability, std::vector<double> estimates) {
  reliability.to_priors(estimates);
  return estimates;
}

std::vector<double> chances(const Reliability& reliability, const std::vector<double>& priors) {
  for (const double prior : priors) {
    if (!(prior >= 0 && prior <= 1)) {
      throw_unexpected("priors", "numbers in [0, 1]", std::to_string(prior));
    }
  }
  std::vector<double> chances(priors.size());
  reliability.find_chances(priors, chances);
  return chances;
}

Tree make_tree(std::int32_t root_token, const std::string& coupling, const py::object& ends,
               int remaining) {
  return Tree(root_token, coupling_of(coupling), integers("ends", ends), remaining);
}

std::pair<Ids, Ids> rows(const Tree& tree) {
  const NodeColumns& columns = tree.columns();
  std::pair<Ids, Ids> rows;
  for (const int node : tree.submitted()) {
    rows.first.push_back(columns.token[node]);
    rows.second.push_back(node == 0 ? -1 : columns.row[columns.parent[node]]);
  }
  return rows;
}

void add_columns(py::class_<Tree>& tree) {
  tree.def_property_readonly("token", &column<&NodeColumns::token>)
      .def_property_readonly("parent", &column<&NodeColumns::parent>)
      .def_property_readonly("depth", &column<&NodeColumns::depth>)
      .def_property_readonly("slot", &column<&NodeColumns::slot>)
      .def_property_readonly("first_child", &column<&NodeColumns::first_child>)
      .def_property_readonly("estimate", &column<&NodeColumns::estimate>)
      .def_property_readonly("prior", &column<&NodeColumns::prior>)
      .def_property_readonly("max_prob", &column<&NodeColumns::max_prob>)
      .def_property_readonly("first_chance", &column<&NodeColumns::first_chance>)
      .def_property_readonly("entropy", &column<&NodeColumns::entropy>)
      .def_property_readonly("draw", &column<&NodeColumns::draw>)
      .def_property_readonly("rank", &column<&NodeColumns::rank>)
      .def_property_readonly("on_main_line", &flags<&NodeColumns::on_main_line>)
      .def_property_readonly("terminal", &flags<&NodeColumns::terminal>);
}

void add_values(py::class_<Tree>& tree) {
  tree.def("tokens", &values<&NodeColumns::token>, "nodes"_a)
      .def("slots", &values<&NodeColumns::slot>, "nodes"_a)
      .def("ranks", &values<&NodeColumns::rank>, "nodes"_a)
      .def("first_children", &values<&NodeColumns::first_child>, "nodes"_a)
      .def("estimates", &values<&NodeColumns::estimate>, "nodes"_a)
      .def("first_chances", &values<&NodeColumns::first_chance>, "nodes"_a);
}

void add_looks(py::class_<Tree>& tree) {
  tree.def("__len__", &Tree::size)
      .def_property_readonly("submitted", &Tree::submitted)
      .def("children", &Tree::children, "node"_a)
      .def("main_line", &Tree::main_line, "top"_a = 0)
      .def("first_guess", &Tree::first_guess, "node"_a)
      .def("path", &Tree::path, "node"_a)
      .def("expandable", &Tree::expandable, "node"_a)
      .def("frontier", &Tree::frontier, "count"_a)
      .def("likeliest", &Tree::likeliest, "count"_a)
      .def("rows", &rows)
      .def(
          "draft_rows", [](const Tree& self, const Ids& nodes) { return self.draft_rows(nodes); },
          "nodes"_a)
      .def("question_size", [](const Tree& self) { return self.question().size(); });
}

void add_growth(py::class_<Tree>& tree) {
  tree.def_property("remaining", &Tree::remaining, &Tree::set_remaining)
      .def_property_readonly("num_expanded", &Tree::num_expanded)
      .def(
          "growable",
          [](const Tree& self, const py::object& nodes, int max_expanded) {
            return self.growable(integers("grow", nodes), max_expanded);
          },
          "nodes"_a, "max_expanded"_a)
      .def("expand", &expand, "nodes"_a, "ids"_a, "estimates"_a, "max_prob"_a, "entropy"_a,
           "first_row"_a, "reliability"_a)
      .def(
          "attach", [](Tree& self, const py::object& fans) { self.attach(integers("fan", fans)); },
          "fans"_a)
      .def(
          "match",
          [](Tree& self, int node, const std::vector<std::int32_t>& tokens,
             const std::vector<double>& chances) { return self.match(node, tokens, chances); },
          "node"_a, "tokens"_a, "chances"_a)
      .def(
          "submit",
          [](Tree& self, const py::object& nodes, int max_rows) {
            return self.submit(integers("submit", nodes), max_rows);
          },
          "nodes"_a, "max_rows"_a);
}

void add_rounds(py::class_<Tree>& tree) {
  tree.def(
          "answer",
          [](const Tree& self, const Ids& path, int winner) { return self.answer({path, winner}); },
          "path"_a, "winner"_a)
      .def(
          "teach",
          [](const Tree& self, const Ids& path, int winner, Reliability& reliability) {
            self.teach({path, winner}, reliability);
          },
          "path"_a, "winner"_a, "reliability"_a)
      .def(
          "keep",
          [](const Tree& self, const Ids& path, int winner) { return self.keep({path, winner}); },
          "path"_a, "winner"_a)
      .def(
          "reroot",
          [](Tree& self, const Ids& path, int winner, std::int32_t token) {
            const Dropped dropped = self.reroot({path, winner}, token);
            return std::pair(dropped.main_line, dropped.other);
          },
          "path"_a, "winner"_a, "token"_a);
}

}  // namespace

void add_tree(py::module_& module) {
  py::class_<Reliability>(module, "Reliability", "How often guesses turn out right.")
      .def(py::init([](const std::string& coupling, double strength, double copy_odds) {
             return Reliability(coupling_of(coupling), strength, copy_odds);
           }),
           "coupling"_a = "gumbel", "strength"_a = 3.0, "copy_odds"_a = 0.25)
      .def("priors", &priors, "estimates"_a)
      .def("chances", &chances, "priors"_a);
  py::class_<Tree> tree(module, "Tree", "The speculation tree of one request.");
  tree.def(py::init(&make_tree), "root_token"_a, py::kw_only(), "coupling"_a = "gumbel",
           "ends"_a = py::tuple(), "remaining"_a = INT_MAX);
  add_columns(tree);
  add_values(tree);
  add_looks(tree);
  add_growth(tree);
  add_rounds(tree);
  module.def("write_questions", &write_questions, "trees"_a, "candidates"_a, "parents"_a,
             "n_nodes"_a, "draw"_a, "Write what verify_tree is asked about each tree.");
}

}  // namespace specbranch
