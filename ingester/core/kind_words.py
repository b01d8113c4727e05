"""The closed lists that `kind` compares with, in lower case. They support other evidence and never decide alone."""

AWAY_SUBJECTS = (
    "automatic reply", "automatic response", "auto reply", "auto-reply", "autoreply", "auto response", "auto-response",
    "autoresponse", "out of office", "out of the office", "out-of-office", "vacation response",
    "automatische antwort", "abwesenheitsnotiz", "abwesenheitsnachricht", "automatische abwesenheit", "abwesend",
    "réponse automatique", "absence du bureau", "absent du bureau", "message d'absence",
    "respuesta automática", "respuesta automatica", "fuera de la oficina", "fuera de oficina",
    "risposta automatica", "fuori sede", "fuori ufficio", "assenza dall'ufficio",
    "resposta automática", "resposta automatica", "ausência temporária", "fora do escritório",
    "automatisch antwoord", "afwezigheidsbericht", "niet aanwezig", "afwezig",
    "automatyczna odpowiedź", "odpowiedź automatyczna", "autoodpowiedź", "nieobecność", "poza biurem",
    "автоматический ответ", "автоответ", "отсутствие на рабочем месте", "вне офиса",
    "自動応答", "自動返信", "不在通知", "自动回复", "自动答复",
    "自動回覆", "自動回應", "자동 회신", "자동회신", "자동 응답", "자동응답", "부재중",
    "autosvar", "automatiskt svar", "automatisk svar", "automaattinen vastaus", "automatická odpověď",
    "automatikus válasz", "otomatik yan",
)  # fmt: skip
"""How the subject of an absence note begins: the usual clients in their languages."""

BOUNCE_SUBJECTS = (
    "undeliver", "mail delivery fail", "mail delivery system", "delivery status notification", "delivery failure",
    "delivery has failed", "delivery notification", "failure notice", "returned mail", "mail system error",
    "message undeliver", "mail undeliver", "non delivery", "non-delivery", "nondeliver", "warning: message",
    "warning: could not send", "message delayed", "delayed mail", "unzustellbar", "non remis", "non distribu",
    "message non distribu", "no se puede entregar", "no entregado", "onbestelbaar", "non recapitabile",
    "mancato recapito", "não é possível entregar", "não entregue", "niedostarcz", "nie można dostarczyć",
    "недоставленное", "не удалось доставить", "配信不能", "配信できません",
    "无法送达", "未送达", "退信", "無法傳遞", "전달할 수 없음",
)  # fmt: skip
"""How the subject of a bounce begins. "Re:" before it is a person's."""

OPENINGS = (
    ("hi. this is the qmail-send program", "qmail"),
    ("this is the mail system at host", "postfix"),
    ("this is the postfix program at host", "postfix"),
    ("this message was created automatically by mail delivery software", "exim"),
    ("a message that you sent could not be delivered", "exim"),
    ("the original message was received at", "sendmail"),
    ("this is an automatically generated delivery status notification", "microsoft"),
    ("delivery has failed to these recipients", "exchange"),
    ("your message did not reach some or all of the intended recipients", "exchange"),
    ("delivery to the following recipient failed", "gmail"),
    ("** address not found **", "gmail"),
    ("an error occurred while trying to deliver the mail to the following recipients", "ses"),
)
"""How mail systems without a report begin theirs."""

DELAYED = ("has not yet been delivered", "this is a warning message only", "this is a warning only")
"""How they say that they still try."""

RECEIPT_SUBJECTS = (
    "read:", "read receipt", "return receipt", "gelesen:", "lesebestätigung", "empfangsbestätigung", "lu :", "lu:",
    "confirmation de lecture", "accusé de réception", "accusé de lecture", "leído:", "confirmación de lectura",
    "letto:", "conferma di lettura", "lida:", "confirmação de leitura", "gelezen:", "leesbevestiging",
    "przeczytano:", "potwierdzenie", "прочитано:", "開封済み", "開封確認", "已读", "已讀", "읽음:",
)  # fmt: skip
"""How the subject of a read receipt begins."""
