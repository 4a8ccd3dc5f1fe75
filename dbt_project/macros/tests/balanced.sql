{# Debits equal credits in every group. #}
{% test balanced(model, group_by, debits, credits) %}
select
    {{ group_by | join(', ') }},
    {{ sum_money(debits) }} as debits,
    {{ sum_money(credits) }} as credits
from {{ model }}
group by {{ group_by | join(', ') }}
having {{ sum_money(debits) }} <> {{ sum_money(credits) }}
{% endtest %}
