"""Classes of `torch.nn` that are refused whatever their settings, each with its reason."""

from torch import nn

from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound

REASONS: dict[str, tuple[type[nn.Module], ...]] = {
    "a product of two functions of the input has no finite constant. Use layers of affine maps and activations": (
        nn.Bilinear,
    ),
    "attention is a product of two functions of the input, which has no finite constant on the whole space. On a ball it has one: pass the"
    " `nn.MultiheadAttention` to `sdplip.nn.attention_on_ball`": (
        nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.TransformerDecoder,
        nn.TransformerDecoderLayer,
    ),
    "recurrent networks multiply gates, and their constant grows with the length of the sequence. Unroll it into known layers": (
        nn.RNNBase, nn.RNN, nn.LSTM, nn.GRU, nn.RNNCellBase, nn.RNNCell, nn.LSTMCell, nn.GRUCell,
    ),
    "its input is not a point of a vector space but an index. Bound the network behind it": (nn.Embedding, nn.EmbeddingBag),
    "it takes two inputs; a constant would need a norm of both together. Bound the network in front of it; `sdplip.robustness.angle_radius` and"
    " `half_space_radius` certify cosines and distances of its embeddings": (
        nn.CosineSimilarity, nn.PairwiseDistance,
    ),
    "a loss is not a layer. Bound the network in front of it": tuple(
        cls for name, cls in vars(nn).items() if name.endswith("Loss") or name in ("NLLLoss2d", "AdaptiveLogSoftmaxWithLoss")
    ),
    "replicas on several devices are not read. Pass its `.module`": (nn.DataParallel, nn.parallel.DistributedDataParallel),
}  # fmt: skip

_WHY = {cls: reason for reason, classes in REASONS.items() for cls in classes}


@lipschitz.register(*_WHY)
def _(module: nn.Module, context: Context) -> Bound:
    cls = lipschitz.registered(module)
    assert cls is not None
    raise context.refuse(module, _WHY[cls] + ".")
