#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>

#include "client_text.hpp"
#include "plan_report.hpp"

namespace pocketfleet {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();

template <class... Values>
std::string words(const char* format, Values... values) {
  std::array<char, 512> out{};
  std::snprintf(out.data(), out.size(), format, values...);
  return out.data();
}

double megabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1048576;
}

std::string mb(std::uint64_t bytes) {
  return words("%.0f MB", megabytes(bytes));
}

std::string bare_mb(std::uint64_t bytes) {
  return words("%.0f", megabytes(bytes));
}

std::string ms(double seconds) {
  return words(seconds < 0.1 ? "%.1f" : "%.0f", seconds * 1000);
}

std::string rate(double token_s) {
  return token_s > 0 && token_s < never ? words(token_s > 0.1 ? "%.1f" : "%.0f", 1 / token_s) : "-";
}

void add_table(std::string& out, const text_table& table, bool colour) {
  for (const auto& line : table.lines(colour)) out += "  " + line + "\n";
}

std::string layers_of(const shard_member& m) {
  std::string out = "none";
  if (m.layers > 0) {
    out = std::to_string(m.first_layer);
    if (m.layers > 1) out += " to " + std::to_string(m.first_layer + m.layers - 1);
  }
  return m.output ? out + (m.layers > 0 ? ", output" : " but the output") : out;
}

struct text_writer {
  const plan_report& r;
  bool colour;
  std::string out{};

  const std::string& name(std::size_t device) const { return r.phones[device].name; }
  cell title(const std::string& text) const { return {text, tint::bold}; }
  void heading(const std::string& text) { out += "\n" + tinted(title(text), colour) + "\n"; }

  void model() {
    const auto& m = r.model;
    out += printable(m.name) + ": " + printable(m.architecture) + ", " + m.quantization + ", " +
           mb(m.file_bytes()) + ", " + counted(m.layers.size(), "layer") + ", " +
           words("%.1f KB of cache a token, %llu words in its vocabulary",
                 static_cast<double>(m.kv_bytes_per_token()) / 1024,
                 static_cast<unsigned long long>(m.n_vocab)) +
           (m.tied ? ", tied embeddings" : "") + "\n";
    out += words(
        "Context %llu, batch %llu; of a phone's memory %.0f %% may be used, and no more than is free.\n",
        static_cast<unsigned long long>(r.result.options.context),
        static_cast<unsigned long long>(r.result.options.batch), r.result.options.share * 100);
  }

  void singles() {
    heading("Each phone alone");
    text_table table({{"PHONE"},
                      {"MB NEEDED", true},
                      {"MAY USE", true},
                      {"OF", true},
                      {"FITS"},
                      {"TOKENS/S", true},
                      {"FINEST THAT FITS"}});
    for (const auto& s : r.result.singles) {
      const auto& m = s.plan.members.front();
      const bool fits = s.plan.fits();
      const std::string verdict = !s.possible ? "not asked: worker only, or speed unknown"
                                  : fits      ? "yes"
                                              : "no, by " + mb(m.memory() - m.budget);
      table.add({name(s.device),
                 bare_mb(m.memory()),
                 bare_mb(m.budget),
                 bare_mb(r.devices[s.device].ram_bytes),
                 {verdict, !s.possible ? tint::dim
                           : fits      ? tint::good
                                       : tint::warning},
                 s.possible && fits ? rate(s.plan.token_s) : "-",
                 s.finest.empty() ? "none" : s.finest});
    }
    add_table(out, table, colour);
  }

  void probes() {
    bool any = false;
    for (const auto& l : r.looked) any = any || l.has_value();
    if (!any) return;
    heading("Reached from this machine (a worker that is busy must not be looked at)");
    for (std::size_t i = 0; i < r.looked.size(); ++i) {
      if (!r.looked[i]) continue;
      const auto& l = *r.looked[i];
      out += "  " + name(i) + ": ";
      if (l.what == probed::outcome::open) out += words("open, %.1f ms", l.rtt_ms);
      if (l.what == probed::outcome::refused) {
        out += words("can be reached, %.1f ms, but no rpc-server listens there yet", l.rtt_ms);
      }
      if (l.what == probed::outcome::silent) out += "cannot be reached (" + l.words + "): planned as such";
      out += "\n";
    }
  }

  void split(const shard_plan& p) {
    text_table table({{"PHONE"},
                      {"ROLE"},
                      {"LAYERS"},
                      {"WEIGHTS", true},
                      {"CACHE", true},
                      {"BUFFERS", true},
                      {"MB IN ALL", true},
                      {"MAY USE", true},
                      {"MS COMPUTE", true},
                      {"NETWORK", true},
                      {"LOAD S", true}});
    for (std::size_t i = 0; i < p.members.size(); ++i) {
      const auto& m = p.members[i];
      table.add({name(m.device), i == 0 ? "master" : "worker " + std::to_string(i), layers_of(m),
                 bare_mb(m.weights), bare_mb(m.kv), bare_mb(m.compute + m.process), bare_mb(m.memory()),
                 bare_mb(m.budget), ms(m.compute_s), i == 0 ? "-" : ms(m.round_trip_s + m.transfer_s),
                 i == 0 ? "-" : words("%.1f", m.load_s)});
    }
    add_table(out, table, colour);
  }

  void plan() {
    const auto& best = r.result.best;
    if (!best) {
      heading("No plan");
      out += "  " + why_infeasible(r) + "\n";
      return;
    }
    const auto& p = *best;
    const bool alone = p.layout.workers.empty();
    heading(alone ? "Plan: " + name(p.layout.master) + " alone, no split"
                  : "Plan: a split over " + counted(p.members.size(), "phone"));
    if (!alone) split(p);
    double compute = 0;
    double trips = 0;
    double transfer = 0;
    for (const auto& m : p.members) {
      compute += m.compute_s;
      trips += m.round_trip_s;
      transfer += m.transfer_s;
    }
    out += "  About " + rate(p.token_s) + " tokens/s: " + ms(p.token_s) + " ms a token";
    if (!alone) {
      out += ", of which " + ms(compute) + " computing, " + ms(trips) + " round trips, " + ms(transfer) +
             " on the air";
    }
    out += ".\n";
    if (!alone) {
      out += words("  Over the network: %.1f KB a token with the context full, %.0f s to load.\n",
                   static_cast<double>(p.bytes_per_token()) / 1024, p.load_s);
    }
    out += words("  Room for a context of up to %llu.\n",
                 static_cast<unsigned long long>(r.result.longest_context));
  }

  void left() {
    std::string lines;
    for (std::size_t i = 0; i < r.phones.size(); ++i) {
      if (const auto why = why_left_out(r, i); !why.empty()) lines += "  " + name(i) + ": " + why + "\n";
    }
    if (lines.empty()) return;
    heading("Left out");
    out += lines;
  }

  void offers() {
    if (r.result.offers.empty()) return;
    heading("In a coarser quantization");
    for (const auto& o : r.result.offers) {
      out += "  " + o.name + ", about " + mb(o.bytes) + ": ";
      if (o.alone) out += name(*o.alone) + " alone";
      if (o.split) {
        out += "split over " + counted(o.split->members.size(), "phone") + ", about " +
               rate(o.split->token_s) + " tokens/s";
      }
      out += "\n";
    }
  }

  void limits() {
    heading("Why");
    for (std::size_t i = 0; i < r.phones.size(); ++i) {
      const auto& d = r.devices[i];
      out +=
          "  " + name(i) + ": " +
          (d.bytes_s > 0 ? words("%.1f GB/s (", d.bytes_s / 1e9) : std::string("speed (")) +
          r.phones[i].speed_text() +
          words("), %.1f ms, %.0f Mbit/s up, %.0f down%s", d.link.rtt_s * 1000, d.link.up_bytes_s * 8 / 1e6,
                d.link.down_bytes_s * 8 / 1e6, r.phones[i].has_link ? "" : " (assumed)") +
          (d.accepts ? "" : ", accepts no connections") + "\n";
    }
    out += "  The embedding, " + mb(r.model.embedding.bytes) +
           words(
               " or %.0f %% of the file, is the master's in every split, and no work. Of the rest, "
               "--tensor-split shares out among the workers what -ngl gives them; the master is not in it.\n",
               100.0 * static_cast<double>(r.model.embedding.bytes) /
                   static_cast<double>(std::max<std::uint64_t>(r.model.file_bytes(), 1)));
    if (!r.result.best) return;
    const auto& p = *r.result.best;
    if (p.layout.workers.empty()) {
      const auto& split = r.result.search.best;
      const bool faster = split && split->token_s < p.token_s;
      out += "  One phone holds all of it. The best split would take " + (split ? ms(split->token_s) : "-") +
             " ms a token, the phone alone takes " + ms(p.token_s) +
             (faster ? ": it is slow, and the fast ones have no room for the whole model.\n"
                     : ": a split makes larger models possible, not faster ones.\n");
      return;
    }
    for (const auto& m : p.members) full(m);
    if (const auto& o = r.result.search.best_other_output) {
      out += "  With the output layer on " +
             std::string(o->layout.output_on_master ? "the master" : "the last worker") + ": " +
             ms(o->token_s) + " ms a token instead of " + ms(p.token_s) + ".\n";
    }
    out += words(
        "  The logits are %.0f KB: they come back from the last worker for each token unless the master "
        "has the output layer.\n",
        static_cast<double>(r.model.n_vocab) * 4 / 1024);
  }

  /// Memory is what limits whoever has no room for a layer more.
  void full(const shard_member& m) {
    std::uint64_t layer = 0;
    for (const auto& l : r.model.layers) {
      layer = std::max(layer, l.weights.bytes + l.kv_bytes * r.result.options.context);
    }
    const auto left = m.budget - m.memory();
    out += "  " + name(m.device) + ": " + mb(left) + " left" +
           (left < layer ? ": full, a layer takes " + mb(layer)
                         : "; it has no more because others are faster, or nearer") +
           ".\n";
  }

  void commands() {
    if (!r.result.best) return;
    const auto& p = *r.result.best;
    heading("Commands, in this order");
    for (const auto& c : commands_of(p, r.result.options, r.phones, r.settings)) {
      out += "  on " + name(c.device) + " (" + c.role + "):\n    " + c.text + "\n";
    }
    heading("Before you do");
    for (const auto& line : safety_of(p, r.phones, r.settings)) out += "  - " + line + "\n";
  }
};

}  // namespace

std::string_view word_for(left_out why) {
  switch (why) {
    case left_out::used: return "used";
    case left_out::not_needed: return "not_needed";
    case left_out::speed_unknown: return "speed_unknown";
    case left_out::unreachable: return "unreachable";
    case left_out::only_master: return "only_master";
    case left_out::too_small: return "too_small";
    case left_out::slower: return "slower";
    case left_out::no_room: break;
  }
  return "no_room";
}

std::string why_left_out(const plan_report& r, std::size_t device) {
  const auto& all = r.result.search.with;
  const double with = device < all.size() ? all[device] : never;
  std::string measure;  // by how much
  if (r.result.best && with < never) {
    const double best = r.result.best->token_s;
    measure = "with it a token takes " + ms(with) + " ms, without it " + ms(best) +
              words(" (%+.0f %%)", (with / best - 1) * 100);
  }
  const std::string as_master = measure.empty() ? "" : "; as the master, " + measure;
  switch (r.result.why[device]) {
    case left_out::used: return {};
    case left_out::not_needed: return "not needed" + (measure.empty() ? "" : "; in a split " + measure);
    case left_out::speed_unknown: return "how fast it is is not known" + as_master;
    case left_out::unreachable:
      return "it accepts no connections: it can only be the master, or a worker with --tunnel" + as_master;
    case left_out::only_master: return "by its role it can only be the master" + as_master;
    case left_out::too_small: return "it has no room for two layers" + as_master;
    case left_out::slower: return measure;
    case left_out::no_room: break;
  }
  return "no split with it fits";
}

std::string why_infeasible(const plan_report& r) {
  const auto& f = r.result;
  if (f.best) return {};
  std::string out = "The model and its context need " + mb(f.needed_bytes) +
                    ", buffers not counted; the phones may use " + mb(f.available_bytes) + " in all";
  if (f.needed_bytes > f.available_bytes) {
    out += ": " + mb(f.needed_bytes - f.available_bytes) + " are missing.";
  } else {
    out +=
        ", but roles, who can be connected to, or what is left for whole layers beside the buffers allow no "
        "split.";
  }
  return out + " A shorter --context or a smaller --batch needs less; " +
         (f.offers.empty() ? "no coarser quantization known here would fit."
                           : "a coarser quantization would fit.");
}

std::string plan_text(const plan_report& report, bool explain, bool colour) {
  text_writer w{report, colour};
  w.model();
  w.singles();
  w.probes();
  w.plan();
  w.left();
  w.offers();
  if (explain) w.limits();
  w.commands();
  return w.out;
}

}  // namespace pocketfleet
