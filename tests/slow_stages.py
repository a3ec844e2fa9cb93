"""The slow definition of pruning in stages: no cache, no sharing, every attention map in full, one prompt at a time.

Each step runs the whole sequence again, layer by layer; after a stage's layer rows are removed (or summed), and
positions are kept or counted anew. The methods' rules are written here a second time, in plain loops.
"""

from __future__ import annotations

import math

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


class Slow:
    """One prompt [S, D] under one method's stages."""

    def __init__(self, model, embeds_SD, start, visual, method, stages, compacted):
        self.body, self.model = model.model, model
        self.embeds, self.start, self.visual = embeds_SD, start, visual
        self.text = len(embeds_SD) - start - visual
        self.method, self.stages, self.compacted = method, {stage.layer: stage for stage in stages}, compacted
        self.kept = {}
        self.members: list[set[int]] = []

    def answer(self, steps):
        tokens, first = [], None
        while len(tokens) < steps:
            logits = self.logits(tokens)
            first = logits if first is None else first
            tokens.append(int(logits.argmax()))
        return tokens, first

    def logits(self, said):
        x = torch.cat([self.embeds, self.model.get_input_embeddings()(torch.tensor(said, dtype=torch.long))])
        p, places = torch.arange(len(x)), torch.arange(self.visual)
        self.members = [{place} for place in range(self.visual)]
        for index in range(len(self.body.layers)):
            entering = x
            x = self.layer(index, x, p)
            stage = self.stages.get(index + 1)
            if stage is not None:
                kept, merge = getattr(self, self.method)(index, entering, x, p, len(places), stage)
                x, p, places = self.drop(x, p, places, kept, merge)
                self.kept[index + 1] = places.tolist()
        return self.model.lm_head(self.body.norm(x[-1]))

    def drop(self, x, p, places, kept, merge):
        n, a = len(places), self.start
        of = self.members
        self.members = [of[k] for k in kept] + [set().union(*(of[j] for j in range(n) if row[j])) for row in merge]
        made = merge @ x[a : a + n]
        x = torch.cat([x[:a], x[a + kept], made, x[a + n :]])
        p = torch.cat([p[:a], p[a + kept], torch.zeros(len(made), dtype=torch.long), p[a + n :]])
        if self.compacted:
            p = torch.arange(len(x))
        return x, p, torch.cat([places[kept], torch.full((len(made),), -1)])

    def layer(self, index, x, p):
        block, rope = self.body.layers[index], self.body.rotary_emb(x[None], p[None])
        mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()[None, None]
        return block(x[None], attention_mask=mask, position_embeddings=rope)[0]

    def keys_and_map(self, index, x, p):
        """Keys [kv, S, d] and the full attention map [H, S, S] of one layer."""
        block = self.body.layers[index]
        att, h = block.self_attn, block.input_layernorm(x)
        rope = self.body.rotary_emb(x[None], p[None])
        q, k = (f(h).view(len(x), -1, att.head_dim).transpose(0, 1)[None] for f in (att.q_proj, att.k_proj))
        q, k = apply_rotary_pos_emb(q, k, *rope)
        scores = q[0] @ k[0].repeat_interleave(q.shape[1] // k.shape[1], 0).transpose(1, 2) / math.sqrt(att.head_dim)
        future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        return k[0], scores.masked_fill(future, -math.inf).softmax(-1)

    def sorted_top(self, score, count):
        order = sorted(range(len(score)), key=lambda j: (-float(score[j]), j))
        return torch.tensor(sorted(order[:count]), dtype=torch.long)

    def nothing(self, n):
        return torch.zeros(0, n)

    def fastv(self, index, entering, x, p, n, stage):
        end = self.start + n + self.text
        _, a = self.keys_and_map(index, entering, p)
        score = a[:, end - 1, self.start : self.start + n].mean(0)
        return self.sorted_top(score, stage.keep), self.nothing(n)

    def pdrop(self, index, entering, x, p, n, stage):
        return self.fastv(index + 1, x, x, p, n, stage)

    def raters(self):
        v, t = self.embeds[self.start : self.start + self.visual], self.embeds[self.start + self.visual :]
        r = (v @ t.T).softmax(1).mean(0)
        return [i for i in range(len(r)) if r[i] > r.mean()] or list(range(len(r)))

    def sparsevlm(self, index, entering, x, p, n, stage):
        _, a = self.keys_and_map(index, entering, p)
        rows = [self.start + n + i for i in self.raters()]
        score = a.mean(0)[rows, self.start : self.start + n].mean(0)
        kept = self.sorted_top(score, stage.keep)
        gone = [j for j in range(n) if j not in kept.tolist()]
        recycled = sorted(gone, key=lambda j: -float(score[j]))[: int(0.3 * len(gone)) + 1]
        h = x[self.start : self.start + n][recycled]
        m, c = len(recycled), int(len(recycled) / 10) + 1
        d = [[float((h[i] - h[j]).norm()) / math.sqrt(h.shape[1]) for j in range(m)] for i in range(m)]
        rho = [math.exp(-sum(v * v for v in sorted(row)[:c]) / c) for row in d]
        biggest = max(max(row) for row in d)
        delta = [min([d[i][j] for j in range(m) if rho[j] > rho[i]] or [biggest]) for i in range(m)]
        centres = sorted(range(m), key=lambda i: -delta[i] * rho[i])[:c]
        merge = torch.zeros(c, n)
        for i in range(m):
            g = centres.index(i) if i in centres else min(range(c), key=lambda g: d[i][centres[g]])
            merge[g, recycled[i]] = 1
        return kept, merge / (merge.sum(1, keepdim=True) + 1e-6)

    def sparsevlm_plus(self, index, entering, x, p, n, stage):
        _, a = self.keys_and_map(index, entering, p)
        size = self.body.layers[0].self_attn.head_dim
        theta = self.body.rotary_emb.inv_freq
        rows = [self.start + n + i for i in self.raters()]
        columns = range(self.start, self.start + n)
        g = torch.tensor(
            [[2 * float(torch.cos(theta * (p[i] - p[j])).sum()) / math.sqrt(size) for j in columns] for i in rows]
        )
        weighed = a[:, rows, self.start : self.start + n] / g
        heads = sorted(range(len(a)), key=lambda h: -float(weighed[h].sum()))[:14]
        return self.sorted_top(weighed[heads].mean(0).mean(0), stage.keep), self.nothing(n)

    def dart(self, index, entering, x, p, n, stage):
        k, _ = self.keys_and_map(index, entering, p)
        size, a, b = k.abs().sum((0, 2)), self.start, self.start + n
        image = self.sorted_top(size[a:b], 4)
        text = self.sorted_top(size[b : b + self.text], 4)
        unit = torch.nn.functional.normalize(self.body.norm(x), dim=-1)
        kept, each = image.tolist(), (stage.keep - 4) // 8
        pivots = list(set([a + j for j in ordered(size[a:b])] + [b + j for j in ordered(size[b : b + self.text])]))
        for number, pivot in enumerate(pivots):
            left = [j for j in range(n) if j not in kept]
            takes = each if number < len(pivots) - 1 else each * (9 - len(pivots))
            kept += sorted(left, key=lambda j: float(unit[pivot] @ unit[a + j]))[:takes]
        assert len(text) <= 4
        return torch.tensor(sorted(kept)), self.nothing(n)

    def fitprune(self, index, entering, x, p, n, stage):
        _, a = self.keys_and_map(index, entering, p)
        m, v = a.amax(0), slice(self.start, self.start + n)
        c = m[self.start + n : self.start + n + self.text, v].sum(0)
        return self.sorted_top(c * m[v, v].sum(0) / n, stage.keep), self.nothing(n)


def ordered(size):
    """The four largest in descending order: that is the order in which they go into the set."""
    return sorted(range(len(size)), key=lambda j: -float(size[j]))[:4]
