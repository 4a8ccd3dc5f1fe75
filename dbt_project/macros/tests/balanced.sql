{# Debits equal credits in every group. #}
{% test balanced(model, group_by, debits, credits) %}
select
    {{ group_by | join(', ') }},
    sum({{ debits }}) as debits,
    sum({{ credits }}) as credits
from {{ model }}
group by {{ group_by | join(', ') }}
having sum({{ debits }}) <> sum({{ credits }})
{% endtest %}
