"""Losses: one list of laws for all, and one number computed by hand for each."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sdplip.errors import InvalidConfig
from sdplip.nn.losses import (
    CLL,
    CRM,
    EMMA,
    HKR,
    CertificateRegularised,
    CrossEntropy,
    GloRo,
    LogitAnnealing,
    LossContext,
    MultiMargin,
    TauCrossEntropy,
    radii,
)
from sdplip.training.build import LOSSES, build_loss
from sdplip.training.tables import LossConfig

ALL = [
    CrossEntropy(),
    TauCrossEntropy(),
    MultiMargin(),
    CertificateRegularised(),
    EMMA(),
    LogitAnnealing(),
    LogitAnnealing(beta=0.5, eps=0.3),
    HKR(),
    GloRo(),
    GloRo(weight=2.0),
    CLL(0.3),
    CRM(2.0, 3.0, 5.0),
]
S = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
Y = torch.tensor([0])
M = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 1.5], [1.0, 1.5, 0.0]], dtype=torch.float64)


def batch() -> tuple[Tensor, Tensor, LossContext]:
    """Five samples, three classes, all of them present."""
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 3, generator=g, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 1, 0]), LossContext(M, 0.3)


@pytest.mark.parametrize("loss", ALL, ids=repr)
class TestLaws:
    def test_classes_have_no_order(self, loss):
        logits, labels, context = batch()
        p = torch.tensor([2, 0, 1])
        permuted = LossContext(M[p][:, p], context.progress)
        assert loss(logits[:, p], p.argsort()[labels], permuted) == pytest.approx(
            float(loss(logits, labels, context))
        )

    def test_it_is_a_mean(self, loss):
        logits, labels, context = batch()
        assert loss(logits.repeat(2, 1), labels.repeat(2), context) == pytest.approx(
            float(loss(logits, labels, context))
        )

    def test_a_larger_logit_of_the_true_class_never_costs(self, loss):
        logits, labels, context = batch()
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, labels, context), logits)
        assert (gradient.gather(1, labels[:, None]) <= 0).all()
        assert (gradient.gather(1, labels[:, None]) < 0).any()

    @pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
    def test_gradients_are_finite_at_the_extremes(self, loss, size):
        """Ties, certainty, and certain errors, all in one class, with two equal rows of the head."""
        logits = torch.zeros(4, 3)
        logits[:, 0] = size
        logits.requires_grad_()
        pairwise = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        value = loss(logits, torch.zeros(4, dtype=torch.int64), LossContext(pairwise))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite() and gradient.isfinite().all()

    def test_gradients_are_those_of_the_value(self, loss):
        """Except EMMA's, which holds kappa fixed on purpose."""
        logits, labels, context = batch()
        if "EMMA" in repr(loss) or "eps=0.3" in repr(loss):
            pytest.skip("kappa is not differentiated")
        assert torch.autograd.gradcheck(lambda s: loss(s, labels, context), logits.requires_grad_())


@pytest.mark.parametrize("loss", [loss for loss in ALL if loss.needs_pairwise], ids=repr)
def test_missing_constants_are_named(loss):
    with pytest.raises(InvalidConfig, match="pairwise"):
        loss(S, Y, LossContext())


def value(loss, logits=S, labels=Y, progress=1.0) -> float:
    return float(loss(logits, labels, LossContext(M, progress)))


CE = math.log(1 + math.exp(-1) + math.exp(-2))  # of the logits 2, 1, 0 and the class 0


class TestByHand:
    def test_offset_cross_entropy(self):
        """Logits (2 - 1, 1, 0) / 0.5 = (2, 2, 0): 0.5 log(2 + e^-2)."""
        assert value(CrossEntropy(1.0, 0.5)) == pytest.approx(0.5 * math.log(2 + math.exp(-2)))

    def test_tau_cross_entropy(self):
        assert value(TauCrossEntropy(2.0)) == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-4)) / 2)

    def test_multi_margin(self):
        """Class 1 lacks 0.5 of the margin 1.5, class 2 nothing; divided by 3 classes."""
        assert value(MultiMargin(1.5)) == pytest.approx(0.5 / 3)

    def test_cr(self):
        """Radii 1 / 2 and 2 / 1: the least is 0.5."""
        assert value(CertificateRegularised(0.4)) == pytest.approx(CE - 0.4 * 0.5)

    def test_emma_at_the_start(self):
        """Radius 0.1: reaches 0.2 and 0.1, both below the margins, so kappa = 1: d = (0, -0.8, -1.9)."""
        assert value(EMMA(1.0), progress=0.0) == pytest.approx(math.log(1 + math.exp(-0.8) + math.exp(-1.9)))

    def test_emma_after_the_first_half(self):
        """Radius 3: reaches 6 and 3 beyond the margins 1 and 2, so kappa takes each rival just to the true class."""
        assert value(EMMA(1.0), progress=0.5) == value(EMMA(1.0)) == pytest.approx(math.log(3))

    def test_emma_of_a_misclassified_sample(self):
        """Class 2: d = (2, 1, 0) and kappa = 0.01: plus 0.03 and 0.045 at radius 3."""
        expected = math.log(math.exp(2.03) + math.exp(1.045) + 1)
        assert value(EMMA(1.0), labels=torch.tensor([2])) == pytest.approx(expected)

    def test_logit_annealing(self):
        """Two classes with p = 3/4: -(1/4)^2 log(3/4); with the offset log 3, p = 1/2: -(1/2)^2 log(1/2)."""
        logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
        assert value(LogitAnnealing(0.0, 1.0, 2.0), logits) == pytest.approx(-math.log(0.75) / 16)
        assert value(LogitAnnealing(math.log(3), 1.0, 2.0), logits) == pytest.approx(math.log(2) / 4)
        # twice the temperature and twice everything else: twice the loss
        assert value(LogitAnnealing(2 * math.log(3), 2.0, 2.0), 2 * logits) == pytest.approx(math.log(2) / 2)

    def test_hkr_binary(self):
        """f = 0.3 of class 1 and -1 of class 0: hinge (0.2 + 0) / 2, KR 1.3."""
        f = torch.tensor([[0.3], [-1.0]])
        assert value(HKR(0.5, 1.0), f, torch.tensor([1, 0])) == pytest.approx(0.5 * 0.1 - 0.5 * 1.3)

    def test_hkr_multiclass(self):
        """Hinges 2 * 0.2, 0, 0.5 and 0.5, 0, 0.5; KR 0.3 and 2, and none of class 2, which is absent."""
        logits = torch.tensor([[0.3, -1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
        expected = 0.5 * 1.9 / 6 - 0.5 * 2.3 / 3
        assert value(HKR(0.5, 1.0), logits, torch.tensor([0, 1])) == pytest.approx(expected)

    def test_hkr_of_one_class_has_no_kr(self):
        f = torch.tensor([[0.3], [0.1]])
        assert value(HKR(0.5, 1.0), f, torch.tensor([1, 1])) == pytest.approx(0.5 * (0.2 + 0.4) / 2)

    def test_gloro(self):
        """Rivals 1 + 0.5 * 2 and 0 + 0.5 * 1: the new class has the logit 2."""
        total = 2 * math.exp(2) + math.e + 1
        assert value(GloRo(0.5)) == pytest.approx(math.log(total) - 2)
        divergence = math.log(total) - math.log(math.exp(2) + math.e + 1)
        assert value(GloRo(0.5, weight=3.0)) == pytest.approx(CE + 3 * divergence)


class TestLimits:
    @pytest.mark.parametrize(
        "loss",
        [
            CrossEntropy(0.0, 1.0),
            TauCrossEntropy(1.0),
            CertificateRegularised(0.0),
            LogitAnnealing(0.0, 1.0, 0.0),
            GloRo(weight=0.0),
            EMMA(1e-12),
        ],
        ids=repr,
    )
    def test_plain_cross_entropy(self, loss):
        logits, labels, context = batch()
        assert loss(logits, labels, context) == pytest.approx(float(F.cross_entropy(logits, labels)))

    def test_cr_pushes_only_what_is_right(self):
        """The gradient of the radius is constant where it is positive, and zero elsewhere."""
        logits, labels, context = batch()
        grads = []
        for gamma in (0.0, 1.0):
            s = logits.clone().requires_grad_()
            grads.append(torch.autograd.grad(CertificateRegularised(gamma)(s, labels, context), s)[0])
        moved = (grads[0] - grads[1]).abs().sum(1) > 0
        assert moved.equal(radii(logits, labels, M) > 0) and moved.any() and not moved.all()

    def test_constants_get_gradients(self):
        """Where the constants are differentiable, as with unconstrained layers, training may shrink them."""
        for loss in (CertificateRegularised(), EMMA(), GloRo()):
            pairwise = M.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(S, Y, LossContext(pairwise)), pairwise)
            assert gradient.sum() > 0


def test_radii_by_hand():
    assert radii(S, Y, M).tolist() == [0.5]
    assert radii(S, torch.tensor([1]), M).tolist() == [-0.5]
    assert radii(torch.zeros(1, 3, dtype=torch.float64), Y, 0 * M).tolist() == [0]  # a tie of equal rows


def test_every_loss_can_be_built():
    for name in LOSSES:
        logits, labels, context = batch()
        if name in ("mse", "mae"):
            labels = logits.roll(1, 0)  # numbers, one for each output
        assert build_loss(LossConfig(name=name))(logits, labels, context).isfinite()
    assert build_loss(LossConfig(name="tau_cross_entropy", temperature=0.5)).tau == 2.0
    assert repr(build_loss(LossConfig(name="gloro", weight=2.0))) == repr(GloRo(weight=2.0))


def test_a_loss_that_needs_constants_says_so_without_a_context():
    with pytest.raises(InvalidConfig, match=r"Pass the Lipschitz constant"):
        EMMA()(S, Y)


class TestConstantsByHand:
    def test_cll(self):
        """Q(0.3) = 2 ln(0.85 / 0.15) = 3.4692; distances -1/2 and -2, shifted by 1 and -1, over 2 / Q."""
        assert CLL(slack=0.3).width == pytest.approx(3.4692, abs=5e-5)
        scale = CLL(slack=0.3).width / 2
        terms = [-1.0, -0.5 + 1, -2.0 + 1]
        expected = math.log(sum(math.exp(scale * t) for t in terms)) - scale * terms[0]
        assert value(CLL(1.0, 0.3, 0.0)) == pytest.approx(expected)
        assert value(CLL(1.0, 0.3, 0.5)) == pytest.approx(expected + 0.5 * 4)

    def test_cll_keeps_its_constants_out_of_the_first_term(self):
        pairwise = M.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(CLL(weight=0.5)(S, Y, pairwise), pairwise)
        assert gradient.sum() == 2 * 0.5 * 2.0 and (gradient != 0).sum() == 2  # both entries of the largest

    def test_crm(self):
        """Radii 1/2 and 2: the soft minimum is log(e^-1.5 + e^-6) at sharpness 3, and nothing from the radius on."""
        soft = math.log(math.exp(-1.5) + math.exp(-6))
        assert value(CRM(2.0, 3.0, 0.6)) == pytest.approx(CE + 2 / 3 * soft)
        assert value(CRM(2.0, 3.0, 0.5)) == pytest.approx(CE)

    def test_crm_pushes_misclassified_samples(self):
        logits = torch.tensor([[0.0, 5.0, 0.0]], dtype=torch.float64, requires_grad=True)
        plain = torch.autograd.grad(F.cross_entropy(logits, Y), logits)[0]
        pushed = torch.autograd.grad(CRM()(logits, Y, M), logits)[0]
        assert pushed[0, 0] < plain[0, 0] and pushed[0, 1] > plain[0, 1]


class TestAsModules:
    @pytest.mark.parametrize("loss", ALL, ids=repr)
    def test_a_number_is_the_constant_of_the_network(self, loss):
        logits, labels, _ = batch()
        every = 2**0.5 * 3.0 * (1 - torch.eye(3, dtype=torch.float64))
        expected = float(loss(logits, labels, LossContext(every)))
        for constants in (3.0, torch.tensor(3.0), every):
            assert float(loss(logits, labels, constants)) == pytest.approx(expected, rel=1e-14)
        if not loss.needs_pairwise:
            assert float(loss(logits, labels)) == float(loss(logits, labels, LossContext()))
        assert isinstance(loss, torch.nn.Module) and not list(loss.parameters())

    def test_labels_in_every_usual_form(self):
        logits, labels, _ = batch()
        expected = HKR()(logits, labels)
        for form in (labels.int(), labels[:, None], F.one_hot(labels), F.one_hot(labels).double()):
            assert torch.equal(HKR()(logits, form), expected)
        one = logits[:, :1]
        signs = torch.tensor([1.0, -1, -1, 1, -1])
        expected = HKR()(one, (signs > 0).long())
        for form in (signs, signs[:, None], (signs > 0).float()):
            assert torch.equal(HKR()(one, form), expected)

    @pytest.mark.parametrize(
        ("logits", "labels"), [(S, torch.zeros(2)), (S, torch.zeros(1, 2)), (S[0], Y), (S, torch.zeros(3, 1))]
    )
    def test_what_does_not_fit_is_refused(self, logits, labels):
        with pytest.raises(InvalidConfig, match="shape"):
            HKR()(logits, labels)

    def test_a_slack_outside_of_its_range(self):
        with pytest.raises(InvalidConfig, match=r"`slack` must lie in \(0, 1\)"):
            CLL(slack=1.0)
