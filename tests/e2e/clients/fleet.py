"""Gateways before phones of one engine or of both, each in the condition that some case needs."""
import functools

from chaos import Chaos, LlamaPhone

QUICK = {"probe_interval_s": 0.2, "cache": "never", "log_format": "json", "slow_start_s": 0}
# A phone that fails often is asked all the same.
PATIENT = {"breaker_failures": 1000, "breaker_connect_failures": 1000}


class Fleet:
    """Each gateway is started when the first case needs it."""

    def __init__(self, kind, start, programs, model):
        self.kind, self.start = kind, start
        self.engines = ["llama-server", "ollama"] if kind == "mixed" else [kind]
        self._real = programs, model

    @functools.cached_property
    def _links(self):
        return self.start.own(Chaos())

    def _simulated(self, **options):
        """One of each engine."""
        return [self.start.sim(1, engine, **{"model": "tiny", "answer_tokens": 12, **options})[0]
                for engine in self.engines]

    def _counting(self, use, count=1):
        """So many of each engine, real where there is a real one, behind links that can slow and cut their answers."""
        links = []
        for engine in self.engines:
            for i in range(count):
                name = f"{use}-{engine}-{i}"
                if engine == "llama-server":
                    links.append(self.start.own(LlamaPhone(*self._real, self._links, name, slots=2)).link)
                else:
                    links.append(self._links.link(self.start.sim(1, engine, model="tiny")[0].port, name))
        return links

    @functools.cached_property
    def plain(self):
        return self.start.gateway(self._counting("plain"), QUICK)

    @functools.cached_property
    def able(self):
        """Simulated phones, which can do more than count; each kind has a model of its own."""
        self.able_phones = [*self._simulated(), *self._simulated(model="thinker", reasoning=3),
                            *self._simulated(model="embedder", embeddings="true")]
        return self.start.gateway(self.able_phones, QUICK)

    @functools.cached_property
    def slow(self):
        """Phones that are met in the middle of an answer."""
        links = self._counting("slow")
        for link in links:
            link.slow(100)
        return self.start.gateway(links, QUICK)

    @functools.cached_property
    def links(self):
        """Of phones that break off, two of each engine, so that another one can go on."""
        return self._counting("breaking", 2)

    @functools.cached_property
    def breaking(self):
        return self.start.gateway(self.links, {**QUICK, **PATIENT})

    @functools.cached_property
    def lost(self):
        """The same phones, but no other one goes on."""
        return self.start.gateway(self.links, {**QUICK, **PATIENT, "rescues": 0})

    @functools.cached_property
    def down(self):
        """Phones that are there, or hang()."""
        self.down_phones = self._simulated()
        return self.start.gateway(self.down_phones, {**QUICK, "probe_timeout_s": 0.2, "probe_fall": 1, "probe_rise": 1})

    def hang(self):
        self.down.wait_healthy(len(self.engines))
        for phone in self.down_phones:
            phone.fault("hang")
        self.down.wait_healthy(0)

    def come_back(self):
        for phone in self.down_phones:
            phone.clear()
        self.down.wait_healthy(len(self.engines))
