"""Which bounds of networks have a certificate file, and how it is written."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.bounds import NetworkBound
    from sdplip.networks import Network


def has_proof(result: "NetworkBound") -> bool:
    proofs = result.certificate or result.system_certificate or result.row_proofs
    return bool(proofs or result.parts or result.pieces)


def save_proof(
    path: Path, file: Path, result: "NetworkBound", network: "Network", reading: dict[str, Any]
) -> "NetworkBound":
    """Writes the file; the result is returned with the bound that it claims, which may be a little larger."""
    from sdplip.certificates.network_file import network_record, save_network
    from sdplip.certificates.parts_file import parts_record, save_parts
    from sdplip.certificates.pieces_file import pieces_record, save_pieces
    from sdplip.certificates.rows_file import rows_record, save_rows
    from sdplip.certificates.system_file import save_system, system_record

    if result.row_proofs:
        assert result.claim is not None
        save_rows(path, rows_record(file.name, result.claim, result.value, result.row_proofs, reading))
        return result
    if result.pieces:
        assert result.claim is not None
        record = pieces_record(file.name, result.claim, result.value, result.pieces, reading)
        save_pieces(path, record)
        return replace(result, value=record.bound)
    if result.parts:
        from sdplip.networks.parts import parts_of, slopes_of

        whole = parts_of(network, [proof.kind for proof in result.parts])
        entry = parts_record(file.name, whole, slopes_of(network), result.parts, result.method, reading)
        save_parts(path, entry)
        return replace(result, value=entry.bound)
    if result.claim is not None:
        assert result.system_certificate is not None
        save_system(path, system_record(file.name, result.claim, result.system_certificate, reading))
        return result
    chain = result.chain
    assert result.certificate is not None
    save_network(
        path, network_record(file.name, chain.weights, result.certificate, chain.remainder(), reading)
    )
    return result
